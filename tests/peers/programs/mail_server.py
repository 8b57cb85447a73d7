"""A mail server of aiosmtpd: prints what it has received."""

import asyncio

from aiosmtpd.smtp import SMTP


class Inbox:
    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        text = envelope.content.decode()
        print("received", envelope.mail_from, *envelope.rcpt_tos, len(text.splitlines()), flush=True)
        return "250 kept"


async def main() -> None:
    factory = lambda: SMTP(Inbox(), hostname="mail.example", decode_data=False)  # noqa: E731
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    print("listening at", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
