// The recipe for Node: raw body, crypto, timingSafeEqual, JSON.parse; in Express or in Fastify.
//
// Prints its address, then serves.
import { createHmac, timingSafeEqual } from "node:crypto";
import express from "express";
import fastify from "fastify";

const SECRET = process.env.INQUD_WEBHOOK_SECRET;
const PATH = "/webhooks/inqud/request";
const LIMIT = 1024 * 1024;

/** The status to answer with. */
function receive(digest, body) {
  const expected = createHmac("sha1", SECRET).update(body).digest();
  const given = Buffer.from(digest ?? "", "hex");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return 401;
  return JSON.parse(body).id.startsWith("CAPD-") ? 200 : 400;
}

function withExpress(ready) {
  const app = express();
  app.post(PATH, express.raw({ type: "*/*", limit: LIMIT }), (request, response) => {
    response.status(receive(request.get("x-payload-digest"), request.body)).end();
  });
  const server = app.listen(0, "127.0.0.1", () => ready(server.address()));
}

function withFastify(ready) {
  const app = fastify({ bodyLimit: LIMIT });
  app.addContentTypeParser("application/json", { parseAs: "buffer" }, (_, body, done) => done(null, body));
  app.post(PATH, (request, reply) => {
    reply.code(receive(request.headers["x-payload-digest"], request.body)).send();
  });
  app.listen({ host: "127.0.0.1", port: 0 }, () => ready(app.server.address()));
}

const serve = { express: withExpress, fastify: withFastify }[process.argv[2]];
serve(({ address, port }) => console.log(`${address}:${port}`));
