"""A server of the package hl7: acknowledges each message, and prints what it has received."""

import asyncio

import hl7.mllp


async def serve(reader: hl7.mllp.HL7StreamReader, writer: hl7.mllp.HL7StreamWriter) -> None:
    try:
        while not writer.is_closing():
            message = await reader.readmessage()
            results = str(message).count("\rOBX|")
            print("received", message["MSH.F10"], message["PID.F5.R1.C1"], results, flush=True)
            writer.writemessage(message.create_ack(ack_code="AA"))
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()
        print("closed", flush=True)


async def main() -> None:
    server = await hl7.mllp.start_hl7_server(serve, "127.0.0.1", 0, encoding="utf-8", limit=2**20)
    print("listening at", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
