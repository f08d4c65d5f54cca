// The official Anthropic client.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { CALLS, CASES, MODEL, QUESTION, SLOW, URL, WEATHER, main, rejected } from "./checks.mjs";

const client = new Anthropic({ baseURL: URL, apiKey: "unused", maxRetries: 0, timeout: 60_000 });
const tools = [{ name: "weather", description: "Weather", input_schema: WEATHER }];
const user = [{ role: "user", content: QUESTION }];

await main("anthropic (Node)", {
  "a message equals the reference": async () => {
    for (const { messages, output_text, output_ids } of CASES.slice(0, 3)) {
      const answer = await client.messages.create({ model: MODEL, messages, temperature: 0, max_tokens: 96 });
      assert.equal(answer.content[0].text, output_text);
      assert.equal(answer.stop_reason, "end_turn");
      assert.equal(answer.usage.output_tokens, output_ids.length);
    }
  },
  "a stream equals the reference": async () => {
    const { messages, output_text, output_ids } = CASES[0];
    const stream = client.messages.stream({ model: MODEL, messages, temperature: 0, max_tokens: 96 });
    let text = "";
    stream.on("text", (delta) => (text += delta));
    const answer = await stream.finalMessage();
    assert.equal(text, output_text);
    assert.equal(answer.usage.output_tokens, output_ids.length);
  },
  "a tool is called and its result is answered": async () => {
    const call = { model: CALLS, tools, max_tokens: 200, temperature: 0 };
    for (const ask of [
      (messages) => client.messages.create({ ...call, messages }),
      (messages) => client.messages.stream({ ...call, messages }).finalMessage(),
    ]) {
      const first = await ask(user);
      assert.equal(first.stop_reason, "tool_use");
      const use = first.content.find((block) => block.type === "tool_use");
      assert.deepEqual(use.input, { town: "Bern", days: 3 });
      const second = await ask([
        ...user,
        { role: "assistant", content: first.content },
        { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "21 degrees" }] },
      ]);
      assert.equal(second.content[0].text, "21 degrees");
    }
  },
  "the helper runs tools": async () => {
    const tool = { ...tools[0], run: (input) => `${input.days} days`, parse: (input) => input };
    const answer = await client.beta.messages.toolRunner({
      model: CALLS, messages: user, tools: [tool], max_tokens: 200, temperature: 0,
    });
    assert.equal(answer.content[0].text, "3 days");
  },
  "tokens are counted": async () => {
    const count = await client.messages.countTokens({ model: MODEL, messages: CASES[0].messages });
    assert.equal(count.input_tokens, CASES[0].prompt_ids.length);
  },
  "errors have their classes": async () => {
    const missing = await rejected(() => client.messages.create({ model: "nothing", messages: user, max_tokens: 9 }));
    assert(missing instanceof Anthropic.NotFoundError, missing);
    const long = [{ role: "user", content: "rain ".repeat(600) }];
    const overflow = await rejected(() => client.messages.create({ model: MODEL, messages: long, max_tokens: 9 }));
    assert(overflow instanceof Anthropic.BadRequestError, overflow);
    assert.match(overflow.message, /prompt is too long: \d+ tokens > 512 maximum/);
  },
  "an aborted stream frees the slot": async () => {
    for (let n = 0; n < 2; n += 1) {
      const stream = await client.messages.create({ model: SLOW, messages: user, max_tokens: 1000, stream: true });
      for await (const event of stream) if (event.type === "content_block_delta") break;
      stream.controller.abort();
    }
  },
});
