"""Request and response: a calculator. An exception in the handler is raised at the client."""

import logging
from concurrent.futures import ThreadPoolExecutor

from linkbox import AnswerError, ClientAR, Json, ServerAR

logging.getLogger("linkbox").addHandler(
    logging.NullHandler()
)  # without this, tracebacks of the handler appear on stderr


def calculate(request):
    """Runs on threads of the server, for several requests at a time."""
    left, operator, right = request.data
    if operator == "+":
        return left + right
    if operator == "/":
        return left / right
    raise ValueError(f"no such operator: {operator}")


with ServerAR("tcp://127.0.0.1:0", format=Json(), handler=calculate) as server:
    # One connection per request:
    with ClientAR(server.address, format=Json()) as client:
        print("2 + 3 =", client.ask([2, "+", 3]))

        for nonsense in ([1, "/", 0], [1, "?", 0]):
            try:
                client.ask(nonsense)
            except AnswerError as error:
                print("the handler failed:", error.type, "-", error.text)

    # One connection for many requests, from many threads:
    with ClientAR(server.address, format=Json(), keep_alive=True) as client, ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda n: client.ask([n, "+", n]), range(1000)))
        assert answers == [2 * n for n in range(1000)]
        print(len(answers), "responses over one connection")
