/** Tells whether this process is inside a sandbox, for what may only be done to a machine; it changes nothing. */
import { ClawError } from '../../errors.ts';
import { agentSocketPath, connectAgent } from '../agent-client.ts';

const HEALTH_TIMEOUT_MS = 2000;

/** Throws AGENT_ALREADY_RUNNING when the agent that CLAWNODE_SOCKET names is a sandbox's. `hint` says what to do instead. */
export async function refuseInsideSandbox(hint: string): Promise<void> {
  const named = process.env['CLAWNODE_SOCKET'];
  if (named === undefined || named === '') return;
  const socketPath = agentSocketPath();
  const health = await connectAgent(socketPath).health(AbortSignal.timeout(HEALTH_TIMEOUT_MS)).catch((error: unknown) => {
    // An agent that is not there or says nothing is looked into by whoever wants its place.
    if (error instanceof ClawError) return undefined;
    throw error;
  });
  if (health?.mode === 'sandbox') throw new ClawError('AGENT_ALREADY_RUNNING', `this is a sandbox, its agent runs already on ${socketPath}`, { hint });
}
