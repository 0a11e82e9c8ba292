// openai-node as its users use it; prints what it got as JSON.
import OpenAI from "openai";

const { BASE_URL: baseURL, KEY: apiKey, MODEL: model } = process.env;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = (content) => [{ role: "user", content }];
const tools = [
  {
    type: "function",
    function: {
      name: "add",
      parameters: { type: "object", properties: { a: { type: "integer" }, b: { type: "integer" } } },
    },
  },
];

async function streamed(params) {
  const texts = {};
  const ids = new Set();
  let usage;
  for await (const chunk of await client.chat.completions.create({ model, stream: true, ...params })) {
    ids.add(chunk.id);
    usage = chunk.usage ?? usage;
    for (const { index, delta } of chunk.choices) texts[index] = (texts[index] ?? "") + (delta.content ?? "");
  }
  return { texts: Object.values(texts), ids: ids.size, usage };
}

async function refused(ask) {
  try {
    await ask();
  } catch (error) {
    return [error.constructor.name, error.status, error.code, error.param, /^req_/.test(error.requestID)];
  }
}

const whole = await client.chat.completions.create({ model, messages: messages("r1 tokens=3"), n: 3 });
const called = await client.chat.completions
  .stream({ model, messages: messages("r4 calls=2"), tools })
  .finalChatCompletion();
async function ran(stream) {
  const ran = [];
  const clock = { name: "now", parse: JSON.parse, parameters: { type: "object", properties: {} } };
  const run = { type: "function", function: { ...clock, function: (given) => (ran.push(given), "12") } };
  const params = { model, stream, messages: messages("r6 calls=2 no-arguments"), tools: [run] };
  return { ran, text: await client.chat.completions.runTools(params).finalContent() };
}

const texts = await client.completions.create({ model, prompt: ["r1", "r2 tokens=2"] });
const continued = [];
for await (const chunk of await client.completions.create({ model, prompt: "r3 tokens=2", stream: true })) {
  continued.push(chunk.choices[0].text);
}
const vectors = await client.embeddings.create({ model, input: ["a", "b"] });
const floats = await client.embeddings.create({ model, input: ["a", "b"], encoding_format: "float" });

console.log(
  JSON.stringify({
    whole: { texts: whole.choices.map((choice) => choice.message.content), usage: whole.usage, model: whole.model },
    requestId: /^req_/.test(whole._request_id),
    stream: await streamed({ messages: messages("r2 tokens=4"), n: 3 }),
    streamWithUsage: await streamed({ messages: messages("r2"), stream_options: { include_usage: true } }),
    ran: [await ran(false), await ran(true)],
    calls: called.choices[0].message.tool_calls.map((call) => call.function),
    json: JSON.parse(
      (
        await client.chat.completions.create({
          model,
          messages: messages("r5"),
          response_format: {
            type: "json_schema",
            json_schema: { name: "n", schema: { type: "object", properties: { age: { type: "integer" } } } },
          },
        })
      ).choices[0].message.content,
    ),
    texts: texts.choices.map((choice) => choice.text),
    continued: continued.join(""),
    vectors: vectors.data.map((each) => each.embedding),
    floats: floats.data.map((each) => each.embedding),
    models: (await client.models.list()).data.map((each) => each.id),
    retrieved: (await client.models.retrieve(model)).id,
    refused: {
      wrongKey: await refused(() => new OpenAI({ baseURL, apiKey: "sk-wrong", maxRetries: 0 }).models.list()),
      unknown: await refused(() => client.models.retrieve("nobody/knows")),
      notAllowed: await refused(() => client.chat.completions.create({ model: "x", messages: messages("r") })),
      wrongValue: await refused(() => client.completions.create({ model, prompt: "r", temperature: 9 })),
      midStream: await refused(() => streamed({ messages: messages("r1 close-after=3") })),
    },
  }),
);
