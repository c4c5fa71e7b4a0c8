"""The one-second promise: after Ctrl-C, or when something fails, everything has ended a second later.

Each part of a run waits only so long for the part below it, and the parts add up:

    0.0 s  Ctrl-C, or the first error
    0.2 s  the thread that waits for the run has noticed             NOTICE_S
    0.6 s  its reader, restorer and writer have ended or are left    THREADS_S
    0.8 s  the encoder's file is closed, or left to the system       CLOSING_S
    1.0 s  processes that have not left by then are killed           what remains

A thread that is stuck in foreign code (a network drive, an encoder) is left behind; it ends with its process.
"""

from __future__ import annotations

PROMISE_S = 1.0
"""Seconds from Ctrl-C, or from the first error, to the end of every thread and process."""

NOTICE_S = 0.2 * PROMISE_S
"""The longest wait between two looks at whether a run is over. Windows notices Ctrl-C only between two waits."""

THREADS_S = 0.4 * PROMISE_S
"""How long the threads of a run have to end once it is over."""

CLOSING_S = 0.2 * PROMISE_S
"""How long a thread that is inside the encoder has to come out before its file is left unclosed."""

PROCESS_S = NOTICE_S + THREADS_S + CLOSING_S
"""How long a process that restores has to end once its parent hangs up; after that it is killed."""
