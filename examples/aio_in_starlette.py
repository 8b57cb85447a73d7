"""linkbox in a web application (Starlette or FastAPI): each HTTP request becomes a linkbox request.

Needs starlette, and httpx, which acts as the browser.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from linkbox import Json
from linkbox.aio import ClientAR, ServerAR

try:
    import httpx
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route
except ImportError:
    raise SystemExit("this example needs: pip install starlette httpx") from None


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Run the endpoints as long as the application, in its event loop."""
    server = await ServerAR("tcp://127.0.0.1:0", Json, handler=lambda request: request.data["n"] ** 2).start()
    async with server, ClientAR(server.address, Json, keep_alive=True) as client:
        app.state.client = client
        yield


async def square(request: Request) -> JSONResponse:
    """All HTTP requests share one linkbox connection."""
    number = int(request.path_params["number"])
    return JSONResponse({"square": await request.app.state.client.ask({"n": number})})


app = Starlette(routes=[Route("/square/{number}", square)], lifespan=lifespan)


async def browse() -> None:
    """Do what uvicorn and a browser would do."""
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as browser,
    ):
        for number in (7, 12):
            response = await browser.get(f"/square/{number}")
            print(number, response.json())
            assert response.json() == {"square": number * number}


asyncio.run(browse())
