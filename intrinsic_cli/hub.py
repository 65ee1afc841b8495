"""Whether the hub answers, and its client libraries told so.

Without a network they retry for half a minute per file. So the hub is probed once per process, and when it does not
answer all three are told to work from their caches alone.
"""

from __future__ import annotations

import functools
import os
import sys
import threading

PROBE_SECONDS = 2.0
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


@functools.cache
def online() -> bool:
    """Whether the hub answers within 2 s. Asked once per process; False at once in offline mode.

    Offline mode is any of HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE, HF_DATASETS_OFFLINE set to 1, true, yes
    or on. The address is HF_ENDPOINT where it is set.
    """
    if any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in OFFLINE_VARIABLES):
        return False
    answers: list[bool] = []
    # A thread, because no socket timeout bounds the look-up of the host's name.
    probe = threading.Thread(target=lambda: answers.append(_answers()), daemon=True)
    probe.start()
    probe.join(PROBE_SECONDS)
    return answers == [True]


def _answers() -> bool:
    from huggingface_hub import constants, get_session

    try:
        return get_session().head(constants.ENDPOINT, timeout=PROBE_SECONDS).status_code < 500
    except Exception:  # the session's HTTP library is the hub client's own choice, and so are its errors
        return False


def go_offline_if_unreachable() -> bool:
    """Put the hub's clients into offline mode when the hub does not answer. Returns whether they are offline.

    The environment variables reach child processes and libraries imported later; libraries imported before
    have copied them into constants, which are set too.
    """
    if online():
        return False
    for name in OFFLINE_VARIABLES:
        os.environ[name] = "1"
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True  # transformers asks huggingface_hub
    if "datasets" in sys.modules:
        import datasets

        datasets.config.HF_HUB_OFFLINE = True
        datasets.config.HF_DATASETS_OFFLINE = True
    return True


def quiet() -> None:
    """Stop the progress bars and load reports of the hub's clients: the new head is no news to us."""
    import transformers
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)  # errors are raised too
