// The official Ollama client.

import assert from "node:assert/strict";
import { Ollama } from "ollama";
import { z } from "zod";
import { CALLS, CASES, MODEL, QUESTION, SLOW, URL, WEATHER, main, rejected } from "./checks.mjs";

const client = new Ollama({ host: URL });
// The references have no penalty, which Ollama has by default.
const options = { temperature: 0, num_predict: 96, repeat_penalty: 1 };
const tools = [{ type: "function", function: { name: "weather", description: "Weather", parameters: WEATHER } }];
const user = { role: "user", content: QUESTION };

await main("ollama (Node)", {
  "models are listed and shown": async () => {
    const { models } = await client.list();
    assert(models.some((model) => model.name === MODEL || model.model === MODEL), models);
    const shown = await client.show({ model: "haiku" });
    assert(shown.capabilities.includes("completion"));
  },
  "a chat equals the reference": async () => {
    for (const { messages, output_text, output_ids } of CASES.slice(0, 3)) {
      const answer = await client.chat({ model: MODEL, messages, options });
      assert.equal(answer.message.content, output_text);
      assert.equal(answer.eval_count, output_ids.length);
    }
    const { models } = await client.ps();
    assert(models.some((model) => model.model === MODEL), models);
  },
  "a stream equals the reference": async () => {
    const { messages, output_text } = CASES[0];
    const parts = [];
    for await (const part of await client.chat({ model: MODEL, messages, options, stream: true })) parts.push(part);
    assert.equal(parts.map((part) => part.message.content).join(""), output_text);
    assert(parts.at(-1).done);
  },
  "a prompt is continued": async () => {
    const { prompt_text, output_text } = CASES[0];
    const answer = await client.generate({ model: MODEL, prompt: prompt_text, raw: true, options });
    assert.equal(answer.response, output_text);
  },
  "a tool is called and its result is answered": async () => {
    const settings = { model: CALLS, tools, options: { temperature: 0 } };
    const first = await client.chat({ ...settings, messages: [user] });
    const call = first.message.tool_calls[0].function;
    assert.equal(call.name, "weather");
    assert.deepEqual(call.arguments, { town: "Bern", days: 3 });
    const result = { role: "tool", tool_name: "weather", content: "21 degrees" };
    const second = await client.chat({ ...settings, messages: [user, first.message, result] });
    assert.equal(second.message.content, "21 degrees");
    const calls = [];
    for await (const part of await client.chat({ ...settings, messages: [user], stream: true }))
      calls.push(...(part.message.tool_calls ?? []));
    assert.deepEqual(calls[0].function.arguments, { town: "Bern", days: 3 });
  },
  "zod describes the answer": async () => {
    const Weather = z.object({ town: z.string(), degrees: z.number() });
    const answer = await client.chat({
      model: CALLS, messages: [user], format: z.toJSONSchema(Weather), options: { temperature: 0 },
    });
    Weather.parse(JSON.parse(answer.message.content));
  },
  "texts are embedded": async () => {
    const { embeddings } = await client.embed({ model: MODEL, input: ["rain", "the cloud"] });
    assert.equal(embeddings.length, 2);
  },
  "errors have status and text": async () => {
    const missing = await rejected(() => client.chat({ model: "nothing", messages: [user] }));
    assert.equal(missing.status_code, 404);
    assert.match(missing.message, /nothing/);
  },
  "an aborted stream frees the slot": async () => {
    for (let n = 0; n < 2; n += 1) {
      const stream = await client.chat({ model: SLOW, messages: [user], stream: true });
      for await (const part of stream) if (part.message.content) break;
      stream.abort();
    }
  },
});
