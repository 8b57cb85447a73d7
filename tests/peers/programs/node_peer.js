// Node.js `net`: `node node_peer.js server|half-open|slow|reset|client [PORT]`.
const net = require("net");
const [role, port] = [process.argv[2], Number(process.argv[3] || 0)];

function lines(socket, take) {
  let rest = "";
  socket.setEncoding("utf8");
  socket.on("data", (data) => {
    const parts = (rest + data).split("\n");
    rest = parts.pop();
    parts.forEach(take);
  });
}

if (role === "server") {
  // Answers each JSON line, and ends its half when the client has ended (the default of Node).
  const server = net.createServer((socket) => {
    lines(socket, (line) => {
      const { id, values } = JSON.parse(line);
      socket.write(JSON.stringify({ id, sum: values.reduce((a, b) => a + b, 0), text: "größer 😀" }) + "\n");
    });
  });
  server.listen(port, "127.0.0.1", () => console.log("listening at " + server.address().port));
} else if (role === "half-open") {
  // Says nothing until the client has ended its half: then all the lines, backwards.
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const got = [];
    lines(socket, (line) => got.push(line));
    socket.on("end", () => {
      console.log("end of a client after " + got.length);
      setImmediate(() => socket.end(got.reverse().map((line) => line + "\n").join("")));
    });
  });
  server.listen(port, "127.0.0.1", () => console.log("listening at " + server.address().port));
} else if (role === "slow") {
  // Reads nothing until a line comes on stdin; then prints how much it was, and its hash.
  const hash = require("crypto").createHash("sha256");
  let count = 0;
  const server = net.createServer((socket) => {
    console.log("connected");
    process.stdin.once("data", () => {
      socket.on("data", (data) => { count += data.length; hash.update(data); });
      socket.on("end", () => console.log("end " + count + " " + hash.digest("hex")));
    });
  });
  server.listen(port, "127.0.0.1", () => console.log("listening at " + server.address().port));
} else if (role === "reset") {
  // Sends a whole line and a part of one, then resets the connection when a line comes on stdin.
  const socket = net.connect({ port, host: "127.0.0.1" }, () => {
    socket.write("whole\npart", () => console.log("sent"));
    process.stdin.once("data", () => { socket.resetAndDestroy(); process.exit(0); });
  });
} else if (role === "client") {
  // Sends three requests, ends its half at once, and prints what still arrives.
  const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true }, () => {
    for (const n of [1, 2, 3]) socket.write(JSON.stringify({ n, text: "ü".repeat(n) }) + "\n");
    socket.end();
  });
  lines(socket, (line) => console.log("answer " + line));
  socket.on("end", () => console.log("end"));
  socket.on("close", (failed) => console.log("closed " + failed));
}
