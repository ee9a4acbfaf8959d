/** One client's session: from a line to its reply. Knows nothing of streams. */
import { COMMANDS, type CommandContext } from './commands.js';
import { CommandError, quoted } from './numbers.js';
import type { QtestLines, QtestTarget } from './target.js';

export class QtestSession implements Disposable {
  readonly #tell: (line: string) => void;
  readonly #context: CommandContext;
  #intercepted = '';
  #watch: Disposable | undefined;

  /** `tell` takes what is no reply, without the end of line: `IRQ raise N` and `IRQ lower N`. */
  constructor(target: QtestTarget, tell: (line: string) => void) {
    this.#tell = tell;
    this.#context = { target, intercept: (device, lines) => this.#intercept(device, lines) };
  }

  /** Carries out one line, given without its end, and returns the reply. It has taken effect then. */
  execute(line: string): string {
    const words = line.split(' ').filter(word => word !== '');
    const name = words.shift() ?? '';
    const command = COMMANDS.get(name);
    if (command === undefined) return `FAIL Unknown command ${quoted(name)}`;
    const [min, max] = command.words;
    if (words.length < min || words.length > max) {
      const expected = min === max ? `${min}` : `${min} to ${max}`;
      return `FAIL ${name} takes ${expected} arguments, not ${words.length}`;
    }
    try {
      return command.run(this.#context, words);
    } catch (failure) {
      if (!(failure instanceof CommandError)) throw failure;
      return `FAIL ${failure.message}`;
    }
  }

  /** The lines are told of until the end. */
  #intercept(device: string, lines: () => QtestLines): void {
    if (this.#watch !== undefined) {
      if (this.#intercepted === device) return;
      throw new CommandError('IRQ intercept already enabled');
    }
    this.#watch = lines().watch((line, level) => this.#tell(`IRQ ${level ? 'raise' : 'lower'} ${line}`));
    this.#intercepted = device;
  }

  [Symbol.dispose](): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
  }
}
