"""``linkbox top``: all endpoints of this user's monitored processes, in the terminal or in a browser.

- ``command``: the command. ``columns``: what is shown of an endpoint, as text.
- ``screen``: the terminal (textual). ``web``: the page (starlette, uvicorn), whose files are in ``static/``.
"""
