"""The Celery application: ``celery -A tasks worker --model resnet18 -n resnet18-1@%h``."""

from __future__ import annotations

from celery import Celery
from celery.bin.base import CeleryOption

import worker_models  # noqa: F401 - the `celery` command finds it in its folder now, and no more when it looks for the pool
from tasks import panel  # noqa: F401 - registers the commands of `celery control`

app = Celery("inferlane")
app.config_from_object("celeryconfig")

app.user_options["worker"].add(
    CeleryOption(["--model"], help="Model of this worker: a registry name, or package.module:factory.")
)
app.user_options["worker"].add(
    CeleryOption(["--chaos"], default="off", help="Start with a fault, see tasks/chaos.py; needs CHAOS_ENABLED=1.")
)
