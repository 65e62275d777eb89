/** What the agent said in a form that is safe to show to a model, for the surfaces that models read. It changes no meaning. */
import { ClawError, type ErrorShape } from '../errors.ts';
import { plainText, plainValue } from './outside-text.ts';

// Longer than any name, label or message of ours; log lines are cut here.
const MAX_ANSWER_TEXT = 4_096;
const MAX_ERROR_TEXT = 1_000;

/** The answer with each of its strings made plain. Throws INTERNAL when it is not an object. */
export function plainAnswer(command: string, answer: unknown): Record<string, unknown> {
  const plain = plainValue(answer, MAX_ANSWER_TEXT);
  if (typeof plain === 'object' && plain !== null && !Array.isArray(plain)) return Object.fromEntries(Object.entries(plain));
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
