# Images that run bundles: `cpu`, and `cuda` for engines on NVIDIA GPUs.
#
#     docker build --target cpu -t swiftvr:cpu .
#     docker run --rm -v "$PWD:/work" --user "$(id -u):$(id -g)" swiftvr:cpu old.mp4 new.mp4 --bundle bundle
#
#     docker build --target cuda -t swiftvr:cuda .
#     docker run --rm --gpus all -v "$PWD:/work" -v swiftvr:/cache swiftvr:cuda old.mp4 new.mp4 --bundle bundle-5090
#
# Any user may run them. They need no home, and write only to /work, /cache and /tmp.

FROM python:3.12-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.12-slim-bookworm AS base
RUN mkdir -m 1777 /cache /work
ENV PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/cache
COPY --from=wheel /dist /dist
WORKDIR /work
ENTRYPOINT ["swiftvr-run"]
CMD ["--help"]

FROM base AS cuda
# The container toolkit mounts the driver with these capabilities; `video` is for NVDEC and NVENC.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
RUN python -m pip install --no-cache-dir "$(echo /dist/*.whl)[rtx,cuda,live]"
USER 65532:65532

# The last stage is what `docker build` makes without --target.
FROM base AS cpu
COPY locks/runtime.txt /locks/runtime.txt
RUN python -m pip install --no-cache-dir --require-hashes -r /locks/runtime.txt \
    && python -m pip install --no-cache-dir --no-deps /dist/*.whl
USER 65532:65532
