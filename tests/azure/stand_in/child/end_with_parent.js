// Loaded into Azurite before it starts: when the tests' process is gone, however it went, its end of this pipe is closed.
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
