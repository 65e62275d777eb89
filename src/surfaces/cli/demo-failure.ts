/** A step of the demo that was not observed: what was expected and what was seen instead. */
export class DemoFailure extends Error {
  override readonly name = 'DemoFailure';
  readonly expected: string;
  readonly seen: string;

  constructor(what: string, { expected, seen }: { expected: string; seen: string }) {
    super(what);
    this.expected = expected;
    this.seen = seen;
  }
}

/** Throws a DemoFailure unless the observation holds. */
export function expect(holds: boolean, what: string, { expected, seen }: { expected: string; seen: unknown }): asserts holds {
  if (!holds) throw new DemoFailure(what, { expected, seen: typeof seen === 'string' ? seen : JSON.stringify(seen) });
}
