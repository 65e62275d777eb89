/** The manifest.json of the bundle for Claude Desktop, made from package.json and the registry. It writes nothing. */
import { z } from 'zod';
import { DEFAULT_SOCKET_PATH } from '../src/surfaces/agent-client.ts';
import { MODES } from '../src/surfaces/cli/mcp-agent.ts';
import { toolsInScope } from '../src/surfaces/tool-scope.ts';
import { TOOLSET_CHOICES } from '../tools/define.ts';

export const packageSchema = z.object({
  name: z.string(),
  version: z.string(),
  description: z.string(),
  license: z.string(),
  type: z.literal('module'),
  os: z.array(z.string()),
  engines: z.object({ node: z.string() }),
  dependencies: z.record(z.string(), z.string()),
});
export type Package = z.output<typeof packageSchema>;

/** The newest version that is no experiment of the format. */
const MANIFEST_VERSION = '0.3';
const ENTRY_POINT = 'bin/clawnode.js';

/**
 * Every setting has a default that is not empty: hosts hand an empty one on as the text `${user_config.NAME}`. A host fills in
 * "true" or "false" for a switch, which is why the switches are written with "=".
 */
export function bundleManifest({ name, version, description, license, os, engines }: Package): Readonly<Record<string, unknown>> {
  return {
    manifest_version: MANIFEST_VERSION,
    name,
    display_name: 'Clawbernetes networking',
    version,
    description,
    long_description:
      'On Linux it speaks for the clawnode agent of this machine, or else for a private sandbox of its own, without root. Elsewhere it is a model: it keeps ' +
      'services, policies and addresses and answers as a node would, and enforces nothing. The server says first which of these it is.',
    author: { name: 'Clawbernetes' },
    license,
    server: {
      type: 'node',
      entry_point: ENTRY_POINT,
      mcp_config: {
        command: 'node',
        args: [
          `\${__dirname}/${ENTRY_POINT}`,
          'mcp',
          '--mode=${user_config.mode}',
          '--toolsets=${user_config.toolsets}',
          '--read-only=${user_config.read_only}',
          '--no-destructive=${user_config.no_destructive}',
        ],
        env: { CLAWNODE_SOCKET: '${user_config.socket}' },
      },
    },
    // What is listed unless the settings below say otherwise; the prompts depend on them too.
    tools: toolsInScope({ toolsets: ['default'] }).map((tool) => ({ name: tool.toolName, description: tool.description })),
    tools_generated: true,
    prompts_generated: true,
    user_config: {
      mode: { type: 'string', title: 'Mode', description: `One of ${MODES.join(', ')}. auto: the running agent, else a sandbox, else a model`, default: 'auto', required: false },
      socket: { type: 'string', title: 'Socket', description: 'Where the agent of this machine listens', default: DEFAULT_SOCKET_PATH, required: false },
      toolsets: { type: 'string', title: 'Toolsets', description: `Some of ${TOOLSET_CHOICES.join(', ')}, with commas between them`, default: 'default', required: false },
      read_only: { type: 'boolean', title: 'Read only', description: 'Only tools that change nothing', default: false, required: false },
      no_destructive: { type: 'boolean', title: 'Nothing destructive', description: 'Only tools that read or add: none that removes, stops or overwrites', default: false, required: false },
    },
    compatibility: { platforms: os, runtimes: { node: engines.node } },
  };
}
