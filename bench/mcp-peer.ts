/** The peer of (g): an MCP server on stdio made of the SDK alone, with one tool that has no schema to speak of. */
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { ListToolsRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const server = new Server({ name: 'peer', version: '1' }, { capabilities: { tools: {} } });
server.setRequestHandler(ListToolsRequestSchema, () => ({ tools: [{ name: 'nothing', inputSchema: { type: 'object' } }] }));
await server.connect(new StdioServerTransport());
