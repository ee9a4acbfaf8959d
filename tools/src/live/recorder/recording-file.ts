import { appendFileSync, renameSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { fileProblem } from '../../cli/file-problem.js';
import { folderWithUs } from '../../leftovers/index.js';
import { LiveError } from '../peers/live-error.js';

/** Characters that are kept until they are written together. */
const CHUNK = 2 ** 20;

/**
 * The file of a recording, gzipped if its name ends in `.gz`: written as lines come, in a folder beside it, and in its place when it is
 * complete. An older file stays there until then; of one that is never complete nothing is left.
 */
export class RecordingFile implements Disposable {
  readonly path: string;
  readonly #folder: ReturnType<typeof folderWithUs>;
  readonly #part: string;
  readonly #gzipped: boolean;
  #lines: string[] = [];
  #length = 0;
  #finished = false;
  #failure: LiveError | undefined;

  /** @throws LiveError if it cannot be written. */
  constructor(path: string) {
    this.path = path;
    this.#gzipped = path.endsWith('.gz');
    const older = this.#told(() => statSync(path, { throwIfNoEntry: false }));
    if (older?.isFile() === false) throw new LiveError(`--record: ${path} is there, and is no file`);
    this.#folder = this.#told(() => folderWithUs(`${basename(path)}.`, dirname(path)));
    this.#part = join(this.#folder.path, 'part');
  }

  /** One line. What goes wrong is told when the recording is put in its place: the machine that is recorded goes on. */
  write(line: string): void {
    this.#lines.push(line);
    this.#length += line.length + 1;
    if (this.#length < CHUNK) return;
    try {
      this.#flush();
    } catch (failure) {
      if (!(failure instanceof LiveError)) throw failure;
      this.#failure ??= failure;
    }
  }

  /** All lines have come; what comes later is not written. @throws LiveError if they could not all be written. */
  finish(): void {
    if (this.#finished) return;
    this.#flush();
    if (this.#failure !== undefined) throw this.#failure;
    this.#finished = true;
    this.#told(() => renameSync(this.#part, this.path));
    this.#folder[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#finished = true;
    this.#folder[Symbol.dispose]();
  }

  #flush(): void {
    const text = this.#lines.map(line => `${line}\n`).join('');
    this.#lines = [];
    this.#length = 0;
    if (this.#failure !== undefined || this.#finished) return;
    // Several gzipped pieces, one after the other, are a gzipped file.
    const bytes = this.#gzipped ? gzipSync(text) : text;
    this.#told(() => appendFileSync(this.#part, bytes));
  }

  #told<T>(act: () => T): T {
    try {
      return act();
    } catch (cause) {
      const problem = fileProblem(cause);
      if (problem === undefined) throw cause;
      throw new LiveError(`--record: ${this.path}: ${problem}`, { cause });
    }
  }
}
