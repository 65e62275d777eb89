/** What the agent said in a form that is safe to show to a model, for the surfaces that models read. It changes no meaning. */
import { findTool } from '../../tools/index.ts';
import { ClawError, type ErrorShape } from '../errors.ts';
import { plainLines, plainText, plainValue } from './outside-text.ts';

// Longer than any name, label or message of ours; log lines are cut here.
const MAX_ANSWER_TEXT = 4_096;
// As much as can be given back to the agent.
const MAX_DOCUMENT = 4_000_000;
const MAX_ERROR_TEXT = 1_000;

/** The answer with each of its strings made plain; documents keep their lines. Throws INTERNAL when it is not an object. */
export function plainAnswer(command: string, answer: unknown): Record<string, unknown> {
  if (typeof answer === 'object' && answer !== null && !Array.isArray(answer)) {
    const documents = new Set(findTool(command)?.documents);
    return Object.fromEntries(
      Object.entries(answer).map(([key, value]: [string, unknown]) =>
        documents.has(key) && typeof value === 'string' ? [key, plainLines(value, MAX_DOCUMENT)] : [plainText(key, MAX_ANSWER_TEXT), plainValue(value, MAX_ANSWER_TEXT)],
      ),
    );
  }
  throw new ClawError('INTERNAL', `the agent answered ${command} with something that is not an object`);
}

/** The error as every surface shows it; its texts may repeat what strangers sent. */
export function plainError(error: ClawError): ErrorShape {
  const { code, message, path, hint } = error.toJSON();
  return {
    code,
    message: plainText(message, MAX_ERROR_TEXT),
    ...(path === undefined ? {} : { path: plainText(path, MAX_ERROR_TEXT) }),
    ...(hint === undefined ? {} : { hint: plainText(hint, MAX_ERROR_TEXT) }),
  };
}
