/**
 * State that cannot be saved or loaded: names the place in the machine, what was found and what was expected. Thrown to the person who
 * saves or restores, never because of what a guest does.
 */
export class StateError extends Error {
  override readonly name = 'StateError';
  /** Where, for instance `devices.engine0.registers`; the file's name for what concerns all of it. */
  readonly path: string;

  constructor(path: string, problem: string, options?: ErrorOptions) {
    super(path === '' ? problem : `${path}: ${problem}`, options);
    this.path = path;
  }
}
