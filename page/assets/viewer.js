// The viewer: a frame before and after on top of each other, with a divider between them that mouse, finger and keys
// move. It is built from the pairs of pictures that the page shows without scripts.
(() => {
  "use strict";
  const MOST = 16; // pixels of the screen per pixel of the picture
  const STEP = 1.5; // of the zoom, per click or key
  const REACH = 26; // how near to the divider a pointer takes it, in CSS pixels

  const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
  const element = (name, className, ...children) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  };
  const button = (label, title, act) => {
    const made = element("button", "", label);
    made.type = "button";
    made.title = title;
    made.setAttribute("aria-label", title);
    made.addEventListener("click", act);
    return made;
  };

  const frameOf = (item) => {
    const [before, after] = item.querySelectorAll("img");
    return {
      name: item.querySelector("h3").textContent,
      before: before.src, after: after.src, thumbnail: item.dataset.thumbnail || after.src,
      width: Number(after.getAttribute("width")), height: Number(after.getAttribute("height")),
      metrics: item.querySelector(".metrics"),
    };
  };

  class Viewer {
    constructor(root) {
      this.root = root;
      this.frames = [...root.querySelectorAll(".frame")].map(frameOf);
      this.current = -1;
      this.split = 0.5; // where the divider is, as a part of the width
      this.zoom = 1; // 1 fits the stage
      this.centre = { x: 0.5, y: 0.5 }; // of what is seen, as a part of the picture
      this.pointers = new Map();
      this.build();
      this.listen();
      this.choose(0);
    }

    build() {
      const layer = (side) => {
        const image = element("img");
        image.alt = "";
        image.draggable = false;
        return { image, box: element("div", `layer ${side}`, image), label: element("span", `side ${side}`, this.root.dataset[side]) };
      };
      this.before = layer("before");
      this.after = layer("after");
      this.slider = element("input", "split");
      Object.assign(this.slider, { type: "range", min: 0, max: 100, step: 1, value: 50 });
      this.slider.setAttribute("aria-label", `Divider between ${this.root.dataset.before} and ${this.root.dataset.after}`);
      const grip = element("div", "grip");
      grip.innerHTML = '<svg width="20" height="20" viewBox="0 0 20 20" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="M7 5 2.5 10 7 15M13 5l4.5 5-4.5 5"/></svg>';
      this.divider = element("div", "divider", grip);
      this.stage = element("div", "stage", this.before.box, this.after.box, this.before.label, this.after.label, this.slider, this.divider);
      this.about = element("span", "about");
      this.about.setAttribute("aria-live", "polite");
      this.level = button("", "Zoom: show one pixel per pixel", () => this.setZoom(this.natural()));
      this.level.classList.add("zoom");
      const zooming = element("div", "group",
        button("−", "Zoom out (−)", () => this.setZoom(this.zoom / STEP)), this.level,
        button("+", "Zoom in (+)", () => this.setZoom(this.zoom * STEP)),
        button("Fit", "Show the whole frame (0)", () => this.setZoom(1)));
      const bar = element("div", "bar", this.about);
      if (this.frames.length > 1) {
        bar.append(element("div", "group",
          button("‹", "Previous frame (,)", () => this.choose(this.current - 1)),
          button("›", "Next frame (.)", () => this.choose(this.current + 1))));
      }
      bar.append(zooming);
      if (document.fullscreenEnabled) {
        const full = button("", "Full screen (f)", () => this.toggleFullScreen());
        full.innerHTML = '<svg width="16" height="16" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.6" aria-hidden="true"><path d="M1 5V1h4M11 1h4v4M15 11v4h-4M5 15H1v-4"/></svg>';
        bar.append(element("div", "group", full));
      }
      this.strip = element("ol", "strip", ...this.frames.map((frame, number) => this.thumbnail(frame, number)));
      this.strip.setAttribute("aria-label", "Frames");
      const hint = element("p", "hint");
      hint.innerHTML = 'Drag the divider. Pinch, double-click or double-tap to zoom.<span class="keys"> Keys: <kbd>←</kbd> <kbd>→</kbd> divider, <kbd>+</kbd> <kbd>−</kbd> <kbd>0</kbd> zoom, <kbd>Shift</kbd> with arrows to look around, <kbd>,</kbd> <kbd>.</kbd> frames.</span>';
      this.root.append(this.stage, bar, ...(this.frames.length > 1 ? [this.strip] : [this.frames[0].metrics.cloneNode(true)]), hint);
      this.root.classList.add("live");
    }

    thumbnail(frame, number) {
      const image = element("img");
      Object.assign(image, { src: frame.thumbnail, alt: "", width: frame.width, height: frame.height });
      const made = button("", frame.name, () => this.choose(number));
      made.removeAttribute("aria-label"); // its text says more
      made.append(image, element("strong", "", frame.name), frame.metrics.cloneNode(true));
      return element("li", "", made);
    }

    listen() {
      this.slider.addEventListener("input", () => this.setSplit(this.slider.value / 100));
      this.stage.addEventListener("pointerdown", (event) => this.press(event));
      this.stage.addEventListener("pointermove", (event) => this.move(event));
      for (const name of ["pointerup", "pointercancel"]) this.stage.addEventListener(name, (event) => this.release(event));
      this.stage.addEventListener("dblclick", (event) => {
        if (this.touched || this.isNearDivider(event)) return; // taps are counted in `tap`
        this.zoomInOrOut(event);
      });
      this.stage.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the page
        event.preventDefault();
        this.setZoom(this.zoom * Math.exp(-event.deltaY / 240), event);
      }, { passive: false });
      this.root.addEventListener("keydown", (event) => this.type(event));
      new ResizeObserver(() => this.draw()).observe(this.root);
    }

    // What is to be seen

    choose(number) {
      number = clamp(number, 0, this.frames.length - 1);
      if (number === this.current) return;
      const frame = this.frames[number];
      this.current = number;
      for (const side of ["before", "after"]) Object.assign(this[side].image, { src: frame[side], width: frame.width, height: frame.height });
      this.about.textContent = frame.name;
      [...this.strip.children].forEach((item, index) => item.firstChild.setAttribute("aria-current", String(index === number)));
      const button = this.strip.children[number].firstChild;
      this.strip.scrollTo({ left: button.offsetLeft - (this.strip.clientWidth - button.offsetWidth) / 2 });
      this.draw();
    }

    setSplit(split) {
      this.split = clamp(split, 0, 1);
      this.draw();
    }

    setZoom(zoom, at) {
      const before = at && this.pictureAt(at);
      this.zoom = clamp(zoom, 1, Math.max(1, this.natural() * MOST));
      if (before) {
        const now = this.pictureAt(at);
        this.centre.x += before.x - now.x;
        this.centre.y += before.y - now.y;
      }
      this.draw();
    }

    zoomInOrOut(at) {
      this.setZoom(this.zoom > 1.01 ? 1 : Math.max(this.natural(), 2), at);
    }

    look(x, y) {
      this.centre.x += x;
      this.centre.y += y;
      this.draw();
    }

    natural() { // the zoom at which a pixel of the picture is one of the screen
      return this.frames[this.current].width / (this.stage.clientWidth * window.devicePixelRatio);
    }

    toggleFullScreen() {
      if (document.fullscreenElement) document.exitFullscreen();
      else if (document.fullscreenEnabled) this.root.requestFullscreen();
    }

    pictureAt(event) { // the place in the picture under a pointer, as parts of its width and height
      const box = this.stage.getBoundingClientRect();
      return {
        x: this.centre.x + ((event.clientX - box.left) / box.width - 0.5) / this.zoom,
        y: this.centre.y + ((event.clientY - box.top) / box.height - 0.5) / this.zoom,
      };
    }

    draw() {
      const { width, height } = this.frames[this.current];
      // As wide as there is room, and not higher than the window.
      const room = this.root.clientWidth - (document.fullscreenElement === this.root ? 24 : 0);
      const stageWidth = Math.min(room, Math.max(window.innerHeight * 0.78, 240) * width / height);
      this.stage.style.width = `${stageWidth}px`;
      this.stage.style.height = `${stageWidth * height / width}px`;
      const seen = 0.5 / this.zoom;
      this.centre.x = clamp(this.centre.x, seen, 1 - seen);
      this.centre.y = clamp(this.centre.y, seen, 1 - seen);
      const scale = stageWidth / width * this.zoom;
      const left = (0.5 - this.centre.x * this.zoom) * stageWidth;
      const top = (0.5 - this.centre.y * this.zoom) * stageWidth * height / width;
      for (const side of [this.before, this.after]) side.image.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
      const percent = Math.round(this.split * 100);
      this.stage.style.setProperty("--split", `${this.split * 100}%`);
      this.slider.value = percent;
      this.slider.setAttribute("aria-valuetext", `${percent} % ${this.root.dataset.before}, ${100 - percent} % ${this.root.dataset.after}`);
      this.before.label.classList.toggle("covered", this.split * stageWidth < this.before.label.offsetWidth + 14);
      this.after.label.classList.toggle("covered", (1 - this.split) * stageWidth < this.after.label.offsetWidth + 14);
      this.stage.classList.toggle("zoomed", this.zoom > 1.01);
      this.stage.classList.toggle("crisp", scale * window.devicePixelRatio > 1.9);
      this.level.textContent = `${Math.round(scale * window.devicePixelRatio * 100)} %`;
    }

    // Pointers

    isNearDivider(event) {
      const box = this.stage.getBoundingClientRect();
      return Math.abs(event.clientX - box.left - this.split * box.width) <= REACH;
    }

    press(event) {
      if (event.button !== 0) return;
      this.stage.setPointerCapture(event.pointerId);
      this.touched = event.pointerType !== "mouse";
      this.moved = this.pointers.size > 0;
      this.begin = { x: event.clientX, y: event.clientY };
      this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (this.pointers.size > 1) this.mode = "pinch";
      else this.mode = this.zoom <= 1.01 || this.isNearDivider(event) ? "slide" : "pan";
      if (this.mode === "slide" && event.pointerType === "mouse") this.slideTo(event);
      if (event.pointerType === "mouse") event.preventDefault(); // no text is selected, but then nothing is focused either
      this.slider.focus({ preventScroll: true, focusVisible: false });
    }

    slideTo(event) {
      const box = this.stage.getBoundingClientRect();
      this.setSplit((event.clientX - box.left) / box.width);
    }

    move(event) {
      const last = this.pointers.get(event.pointerId);
      if (!last) return;
      const now = { x: event.clientX, y: event.clientY };
      this.moved ||= Math.hypot(now.x - this.begin.x, now.y - this.begin.y) > 6;
      const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      this.pointers.set(event.pointerId, now);
      if (this.mode === "pinch" && others.length) this.pinch(last, now, others[0]);
      else if (this.mode === "slide") this.slideTo(event);
      else if (this.mode === "pan") {
        this.stage.classList.add("panning");
        this.look((last.x - now.x) / this.stage.clientWidth / this.zoom, (last.y - now.y) / this.stage.clientHeight / this.zoom);
      }
    }

    pinch(last, now, other) {
      const spread = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
      const middle = { clientX: (now.x + other.x) / 2, clientY: (now.y + other.y) / 2 };
      this.look((last.x - now.x) / 2 / this.stage.clientWidth / this.zoom, (last.y - now.y) / 2 / this.stage.clientHeight / this.zoom);
      if (spread(last, other) > 8) this.setZoom(this.zoom * spread(now, other) / spread(last, other), middle);
    }

    release(event) {
      const last = this.pointers.get(event.pointerId);
      if (last && event.type === "pointerup") {
        if (this.touched && !this.moved) this.tap(event);
        else if (this.mode === "slide") this.slideTo(event);
      }
      this.pointers.delete(event.pointerId);
      this.mode = this.pointers.size ? "pinch" : "";
      this.stage.classList.remove("panning");
    }

    tap(event) { // two taps on one place zoom; one does nothing, so that a finger can rest on the picture
      const last = this.lastTap;
      const again = last && event.timeStamp - last.at < 350 && Math.hypot(event.clientX - last.x, event.clientY - last.y) < 30;
      this.lastTap = again ? null : { at: event.timeStamp, x: event.clientX, y: event.clientY };
      if (again) this.zoomInOrOut(event);
    }

    // Keys

    type(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = 0.12 / this.zoom;
      const looking = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
      const acts = {
        "+": () => this.setZoom(this.zoom * STEP), "=": () => this.setZoom(this.zoom * STEP),
        "-": () => this.setZoom(this.zoom / STEP), "0": () => this.setZoom(1), "1": () => this.setZoom(this.natural()),
        ",": () => this.choose(this.current - 1), ".": () => this.choose(this.current + 1),
        "f": () => this.toggleFullScreen(),
      };
      const act = event.shiftKey && looking ? () => this.look(...looking) : acts[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    }
  }

  for (const root of document.querySelectorAll(".viewer")) new Viewer(root);
})();
