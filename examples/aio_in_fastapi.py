"""An asyncio service behind FastAPI: HTTP requests become linkbox requests, with a timeout for each.

Needs fastapi, and httpx, which acts as the browser. In earnest: `uvicorn aio_in_fastapi:app`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from linkbox import AnswerError, DeadlineExceeded, Json, LinkError
from linkbox.aio import ClientAR, ClientP2M, ServerAR, ServerP2M

try:
    import httpx
    from fastapi import FastAPI, HTTPException
except ImportError:
    raise SystemExit("this example needs: pip install fastapi httpx") from None


async def calculate(request):
    """The service behind the web application. In earnest it is a program of its own."""
    if request.data["divisor"] == 0:
        request.fail("cannot divide by zero")
        return None
    return request.data["dividend"] / request.data["divisor"]


async def collect(sensors: ServerP2M, latest: dict[str, object]) -> None:
    """Keep the newest value of each sensor."""
    while True:
        message = await sensors.message_get()
        latest[message.peer.name] = message.data


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run the endpoints as long as the application, in its event loop."""
    service = await ServerAR("tcp://127.0.0.1:0", Json, handler=calculate).start()
    sensors = ServerP2M("tcp://127.0.0.1:0", Json)
    async with service, sensors, ClientAR(service.address, Json, keep_alive=True) as client:
        app.state.client, app.state.sensors, app.state.latest = client, sensors, {}
        task = asyncio.create_task(collect(sensors, app.state.latest))
        yield
        task.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/divide/{dividend}/{divisor}")
async def divide(dividend: float, divisor: float) -> dict[str, float]:
    """All HTTP requests share one linkbox connection. Each error has an HTTP status."""
    try:
        quotient = await app.state.client.ask({"dividend": dividend, "divisor": divisor}, timeout=5)
    except AnswerError as error:
        status = {"RequestFailed": 422, "limit": 503}.get(error.type, 500)
        raise HTTPException(status, error.text) from None
    except DeadlineExceeded:
        raise HTTPException(504, "the service did not respond in time") from None
    except LinkError as error:  # ConnectFailed, PeerLost, Refused: the service is away
        raise HTTPException(502, str(error)) from None
    return {"quotient": quotient}


@app.get("/latest")
async def latest() -> dict[str, object]:
    return app.state.latest


@app.get("/health")
async def health() -> dict[str, object]:
    """For a load balancer, or for a person."""
    client = app.state.client
    return {"state": client.state.value, "last_error": str(client.last_error or "")}


async def browse() -> None:
    """Do what uvicorn and a browser would do."""
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as browser,
    ):
        async with ClientP2M(app.state.sensors.address, Json, name="roof") as sensor:
            receipt = await sensor.send(21.5)
            await receipt  # until `collect` has taken it
        for path in ("/divide/7/2", "/divide/1/0", "/latest", "/health"):
            response = await browser.get(path)
            print(response.status_code, response.json())


if __name__ == "__main__":
    asyncio.run(browse())
