"""The HTTP side of Inferlane: ``gunicorn -c deploy/gunicorn.conf.py 'api:create_app()'``.

It turns HTTP into requests for :mod:`tasks` and what :mod:`tasks` knows into JSON. It never looks at a model, never
decodes an image and never imports a model runtime.
"""

from api.app import create_app

__all__ = ["create_app"]
