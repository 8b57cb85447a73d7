"""Ask and answer: a calculator. What goes wrong there is raised here."""

import logging
from concurrent.futures import ThreadPoolExecutor

from linkbox import AnswerError, ClientAR, Json, ServerAR

logging.getLogger("linkbox").addHandler(logging.NullHandler())  # tracebacks stay in the server's log


def calculate(request):
    """Runs on a thread of the server's, several at a time."""
    left, operator, right = request.data
    if operator == "+":
        return left + right
    if operator == "/":
        return left / right
    raise ValueError(f"no such operator: {operator}")


with ServerAR("tcp://127.0.0.1:0", format=Json(), handler=calculate) as server:
    # A connection for each ask:
    with ClientAR(server.address, format=Json()) as client:
        print("2 + 3 =", client.ask([2, "+", 3]))

        for nonsense in ([1, "/", 0], [1, "?", 0]):
            try:
                client.ask(nonsense)
            except AnswerError as error:
                print("the server could not:", error.type, "-", error.text)

    # One connection for many asks, from many threads:
    with ClientAR(server.address, format=Json(), keep_alive=True) as client, ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda n: client.ask([n, "+", n]), range(1000)))
        assert answers == [2 * n for n in range(1000)]
        print(len(answers), "answers over one connection")
