"""A client of the package hl7: ``hl7_client.py PORT``; sends three messages over one connection."""

import asyncio
import sys

import hl7
import hl7.mllp

HEAD = "MSH|^~\\&|WARD|A|LAB|B|20260101||ORU^R01|{}|P|2.5\r"


async def main() -> None:
    reader, writer = await hl7.mllp.open_hl7_connection("127.0.0.1", int(sys.argv[1]), encoding="utf-8")
    for n in (1, 2, 3):
        results = "".join(f"OBX|{each}|NM|GLU||{each}.5|mmol/l\r" for each in range(n * 100))
        writer.writemessage(hl7.parse(HEAD.format(4710 + n) + "PID|1||7||Müller^Jörg\r" + results))
        await writer.drain()
        answer = await reader.readmessage()
        print(answer["MSA.F1"], answer["MSA.F2"], answer["MSA.F3"], flush=True)
    writer.close()
    await writer.wait_closed()


asyncio.run(main())
