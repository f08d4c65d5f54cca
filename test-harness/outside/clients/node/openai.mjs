// The official OpenAI client.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { CALLS, CASES, MODEL, QUESTION, SLOW, URL, WEATHER, main, rejected } from "./checks.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: "unused", maxRetries: 0, timeout: 60_000 });
const weather = { type: "function", function: { name: "weather", parameters: WEATHER } };
const user = [{ role: "user", content: QUESTION }];
const Haiku = z.object({ title: z.string(), lines: z.array(z.string()), rating: z.number().int() });

await main("openai (Node)", {
  "models are listed": async () => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert(ids.includes(MODEL), ids);
  },
  "a chat equals the reference": async () => {
    for (const { messages, output_text, output_ids } of CASES.slice(0, 3)) {
      const answer = await client.chat.completions.create({ model: MODEL, messages, temperature: 0, max_tokens: 96 });
      assert.equal(answer.choices[0].message.content, output_text);
      assert.equal(answer.choices[0].finish_reason, "stop");
      assert.equal(answer.usage.completion_tokens, output_ids.length);
    }
  },
  "a stream equals the reference": async () => {
    const { messages, output_text, output_ids } = CASES[0];
    const stream = client.chat.completions.stream({
      model: MODEL, messages, temperature: 0, max_tokens: 96, stream_options: { include_usage: true },
    });
    let text = "";
    stream.on("content", (delta) => (text += delta));
    const answer = await stream.finalChatCompletion();
    assert.equal(text, output_text);
    assert.equal(answer.choices[0].message.content, output_text);
    assert.equal(answer.usage.completion_tokens, output_ids.length);
  },
  "the helper runs tools": async () => {
    let received;
    const run = () =>
      client.chat.completions.runTools({
        model: CALLS, messages: user, temperature: 0,
        tools: [{
          type: "function",
          function: { ...weather.function, parse: JSON.parse, function: (args) => ((received = args), "21 degrees") },
        }],
      });
    assert.equal(await run().finalContent(), "21 degrees");
    assert.deepEqual(received, { town: "Bern", days: 3 });
  },
  "the helper runs streamed tools": async () => {
    const runner = client.chat.completions.runTools({
      model: CALLS, messages: user, temperature: 0, stream: true,
      tools: [{ type: "function", function: { ...weather.function, parse: JSON.parse, function: (args) => args.town } }],
    });
    assert.equal(await runner.finalContent(), "Bern");
  },
  "a required call is parsed": async () => {
    const answer = await client.chat.completions.create({
      model: MODEL, messages: [{ role: "user", content: "Write a haiku" }], temperature: 0, max_tokens: 200,
      tools: [{ type: "function", function: { name: "rate", parameters: {
        type: "object", properties: { rating: { enum: [1, 2, 3] } }, required: ["rating"], additionalProperties: false,
      } } }],
      tool_choice: "required",
    });
    const call = answer.choices[0].message.tool_calls[0].function;
    assert.equal(call.name, "rate");
    assert([1, 2, 3].includes(JSON.parse(call.arguments).rating));
  },
  "zod describes the answer": async () => {
    const answer = await client.chat.completions.parse({
      model: CALLS, messages: user, temperature: 0, response_format: zodResponseFormat(Haiku, "haiku"),
    });
    assert.equal(typeof answer.choices[0].message.parsed.rating, "number");
  },
  "embeddings are decoded": async () => {
    const answer = await client.embeddings.create({ model: MODEL, input: ["rain", "the cloud"] });
    assert.equal(answer.data.length, 2);
    const length = answer.data[0].embedding.reduce((sum, n) => sum + n * n, 0);
    assert(Math.abs(length - 1) < 1e-3, length);
  },
  "errors have their classes": async () => {
    const missing = await rejected(() => client.chat.completions.create({ model: "nothing", messages: user }));
    assert(missing instanceof OpenAI.NotFoundError, missing);
    assert.equal(missing.code, "model_not_found");
    const wrong = await rejected(() => client.chat.completions.create({ model: MODEL, messages: user, temperature: -1 }));
    assert(wrong instanceof OpenAI.BadRequestError && wrong.param === "temperature", wrong);
    const long = [{ role: "user", content: "rain ".repeat(600) }];
    const overflow = await rejected(() => client.chat.completions.create({ model: MODEL, messages: long }));
    assert(overflow instanceof OpenAI.BadRequestError, overflow);
    assert.equal(overflow.code, "context_length_exceeded");
  },
  "an aborted stream frees the slot": async () => {
    for (let n = 0; n < 2; n += 1) {
      const stream = await client.chat.completions.create({ model: SLOW, messages: user, stream: true });
      for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
      stream.controller.abort();
    }
  },
  "a response equals the reference": async () => {
    const { messages, output_text } = CASES[0];
    const answer = await client.responses.create({
      model: MODEL, input: messages, temperature: 0, max_output_tokens: 96, store: false,
    });
    assert.equal(answer.output_text, output_text);
    assert.equal(answer.status, "completed");
  },
  "a streamed response equals the reference": async () => {
    const { messages, output_text } = CASES[0];
    const stream = client.responses.stream({ model: MODEL, input: messages, temperature: 0, max_output_tokens: 96 });
    let text = "";
    stream.on("response.output_text.delta", (event) => (text += event.delta));
    const answer = await stream.finalResponse();
    assert.equal(text, output_text);
    // The helper does not add `output_text` to a response without a format.
    assert.equal(answer.output[0].content[0].text, output_text);
  },
  "a response calls a function": async () => {
    const tools = [{ type: "function", name: "weather", parameters: WEATHER, strict: false }];
    const input = [...user];
    const first = await client.responses.create({ model: CALLS, input, tools, temperature: 0, store: false });
    const call = first.output.find((item) => item.type === "function_call");
    assert.deepEqual(JSON.parse(call.arguments), { town: "Bern", days: 3 });
    input.push(...first.output, { type: "function_call_output", call_id: call.call_id, output: "21 degrees" });
    const second = await client.responses.create({ model: CALLS, input, tools, temperature: 0, store: false });
    assert.equal(second.output_text, "21 degrees");
  },
  "zod describes a response": async () => {
    const answer = await client.responses.parse({
      model: CALLS, input: QUESTION, temperature: 0, store: false, text: { format: zodTextFormat(Haiku, "haiku") },
    });
    assert.equal(typeof answer.output_parsed.rating, "number");
  },
});
