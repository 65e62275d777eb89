/** The server that the official conformance suite wants to meet: its test tools, resources and prompts, for our own HTTP stack to carry. Never part of the product. */
import { setTimeout as delay } from 'node:timers/promises';
import { completable } from '@modelcontextprotocol/sdk/server/completable.js';
import { McpServer, ResourceTemplate } from '@modelcontextprotocol/sdk/server/mcp.js';
import {
  CreateMessageResultSchema,
  ElicitResultSchema,
  SubscribeRequestSchema,
  UnsubscribeRequestSchema,
  type CallToolResult,
  type ElicitRequestFormParams,
  type ServerNotification,
  type ServerRequest,
} from '@modelcontextprotocol/sdk/types.js';
import type { RequestHandlerExtra } from '@modelcontextprotocol/sdk/shared/protocol.js';
import { z } from 'zod';

type Extra = RequestHandlerExtra<ServerRequest, ServerNotification>;

/** One red pixel, and a sound without a sample. */
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';
const WAV = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=';
const STEP_MS = 50;

export function createFixtureServer(): McpServer {
  const server = new McpServer(
    { name: 'conformance-fixtures', version: '1' },
    { capabilities: { tools: {}, resources: { subscribe: true }, prompts: {}, completions: {}, logging: {} } },
  );
  addContentTools(server);
  addTalkingTools(server);
  addResources(server);
  addPrompts(server);
  return server;
}

function text(words: string): CallToolResult {
  return { content: [{ type: 'text', text: words }] };
}

function addContentTools(server: McpServer): void {
  const add = (name: string, content: CallToolResult['content']): void => void server.registerTool(name, { description: `Returns fixed content: ${name}` }, () => ({ content }));
  const resource = (uri: string, mimeType: string, words: string) => ({ type: 'resource' as const, resource: { uri, mimeType, text: words } });
  add('test_simple_text', [{ type: 'text', text: 'This is a simple text response for testing.' }]);
  add('test_image_content', [{ type: 'image', data: PNG, mimeType: 'image/png' }]);
  add('test_audio_content', [{ type: 'audio', data: WAV, mimeType: 'audio/wav' }]);
  add('test_embedded_resource', [resource('test://embedded-resource', 'text/plain', 'This is an embedded resource content.')]);
  add('test_multiple_content_types', [
    { type: 'text', text: 'Multiple content types test:' },
    { type: 'image', data: PNG, mimeType: 'image/png' },
    resource('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}'),
  ]);
  server.registerTool('test_error_handling', { description: 'Always fails' }, () => {
    throw new Error('This tool intentionally returns an error for testing');
  });
}

/** Tools that say or ask something on the way to their answer. */
function addTalkingTools(server: McpServer): void {
  server.registerTool('test_tool_with_logging', { description: 'Logs three times' }, async ({ sendNotification }) => {
    for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
      await sendNotification({ method: 'notifications/message', params: { level: 'info', data } });
      await delay(STEP_MS);
    }
    return text('Logged three times.');
  });
  server.registerTool('test_tool_with_progress', { description: 'Tells of its progress three times' }, async ({ _meta, sendNotification }) => {
    for (const progress of [0, 50, 100]) {
      if (_meta?.progressToken !== undefined) await sendNotification({ method: 'notifications/progress', params: { progressToken: _meta.progressToken, progress, total: 100 } });
      await delay(STEP_MS);
    }
    return text('Progressed.');
  });
  server.registerTool('test_sampling', { description: 'Asks the model of the client', inputSchema: { prompt: z.string() } }, async ({ prompt }, { sendRequest }) => {
    const params = { messages: [{ role: 'user' as const, content: { type: 'text' as const, text: prompt } }], maxTokens: 100 };
    const { content } = await sendRequest({ method: 'sampling/createMessage', params }, CreateMessageResultSchema);
    return text(`LLM response: ${content.type === 'text' ? content.text : content.type}`);
  });
  const word = (description: string) => ({ type: 'string' as const, description });
  const user: ElicitRequestFormParams['requestedSchema'] = {
    type: 'object',
    properties: { username: word("User's response"), email: word("User's email address") },
    required: ['username', 'email'],
  };
  server.registerTool('test_elicitation', { description: 'Asks the user', inputSchema: { message: z.string() } }, async ({ message }, extra) => ask(extra, 'User response', { message, requestedSchema: user }));
  server.registerTool('test_elicitation_sep1034_defaults', { description: 'Asks the user, with defaults' }, async (extra) =>
    ask(extra, 'Elicitation completed', { message: 'Please review these values', requestedSchema: WITH_DEFAULTS }),
  );
  server.registerTool('test_elicitation_sep1330_enums', { description: 'Asks the user, with choices' }, async (extra) =>
    ask(extra, 'Elicitation completed', { message: 'Please choose', requestedSchema: WITH_CHOICES }),
  );
}

async function ask({ sendRequest }: Extra, before: string, params: ElicitRequestFormParams): Promise<CallToolResult> {
  const { action, content } = await sendRequest({ method: 'elicitation/create', params }, ElicitResultSchema);
  return text(`${before}: action=${action}, content=${JSON.stringify(content ?? {})}`);
}

const WITH_DEFAULTS: ElicitRequestFormParams['requestedSchema'] = {
  type: 'object',
  properties: {
    name: { type: 'string', default: 'John Doe' },
    age: { type: 'integer', default: 30 },
    score: { type: 'number', default: 95.5 },
    status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
    verified: { type: 'boolean', default: true },
  },
  required: [],
};

const titled = (words: readonly string[], last: string) => words.map((word, index) => ({ const: `value${index + 1}`, title: `${word} ${last}` }));

const WITH_CHOICES: ElicitRequestFormParams['requestedSchema'] = {
  type: 'object',
  properties: {
    untitledSingle: { type: 'string', enum: ['option1', 'option2', 'option3'] },
    titledSingle: { type: 'string', oneOf: titled(['First', 'Second', 'Third'], 'Option') },
    legacyEnum: { type: 'string', enum: ['opt1', 'opt2', 'opt3'], enumNames: ['Option One', 'Option Two', 'Option Three'] },
    untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2', 'option3'] } },
    titledMulti: { type: 'array', items: { anyOf: titled(['First', 'Second', 'Third'], 'Choice') } },
  },
  required: [],
};

function addResources(server: McpServer): void {
  const add = (name: string, mimeType: string, content: { text: string } | { blob: string }): void =>
    void server.registerResource(name, `test://${name}`, { description: `A fixed resource: ${name}`, mimeType }, ({ href }) => ({ contents: [{ uri: href, mimeType, ...content }] }));
  add('static-text', 'text/plain', { text: 'This is the content of the static text resource.' });
  add('static-binary', 'image/png', { blob: PNG });
  add('watched-resource', 'text/plain', { text: 'Watched.' });
  const template = new ResourceTemplate('test://template/{id}/data', { list: undefined });
  server.registerResource('template', template, { description: 'A resource with a parameter', mimeType: 'application/json' }, ({ href }, { id }) => ({
    contents: [{ uri: href, mimeType: 'application/json', text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${String(id)}` }) }],
  }));
  const uris = new Set<string>();
  server.server.setRequestHandler(SubscribeRequestSchema, ({ params: { uri } }) => {
    uris.add(uri);
    return {};
  });
  server.server.setRequestHandler(UnsubscribeRequestSchema, ({ params: { uri } }) => {
    uris.delete(uri);
    return {};
  });
}

function addPrompts(server: McpServer): void {
  const said = (words: string) => ({ role: 'user' as const, content: { type: 'text' as const, text: words } });
  const cities = completable(z.string().describe('First test argument'), (value) => ['paris', 'park', 'party'].filter((city) => city.startsWith(value)));
  server.registerPrompt('test_simple_prompt', { description: 'A prompt without arguments' }, () => ({ messages: [said('This is a simple prompt for testing.')] }));
  server.registerPrompt(
    'test_prompt_with_arguments',
    { description: 'A prompt with arguments', argsSchema: { arg1: cities, arg2: z.string().describe('Second test argument') } },
    ({ arg1, arg2 }) => ({ messages: [said(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)] }),
  );
  server.registerPrompt('test_prompt_with_embedded_resource', { description: 'A prompt with a resource', argsSchema: { resourceUri: z.string() } }, ({ resourceUri }) => ({
    messages: [
      { role: 'user', content: { type: 'resource', resource: { uri: resourceUri, mimeType: 'text/plain', text: 'Embedded resource content for testing.' } } },
      said('Please process the embedded resource above.'),
    ],
  }));
  server.registerPrompt('test_prompt_with_image', { description: 'A prompt with an image' }, () => ({
    messages: [{ role: 'user', content: { type: 'image', data: PNG, mimeType: 'image/png' } }, said('Please analyze the image above.')],
  }));
}
