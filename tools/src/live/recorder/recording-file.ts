import { closeSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { fileProblem } from '../../cli/file-problem.js';
import { LiveError } from '../peers/live-error.js';

/** Characters that are kept until they are written together. */
const CHUNK = 2 ** 20;

/**
 * The file of a recording, gzipped if its name ends in `.gz`: written as lines come, in a file beside it, and in its place when it is
 * complete. An older file stays there until then.
 */
export class RecordingFile implements Disposable {
  readonly path: string;
  readonly #part: string;
  readonly #gzipped: boolean;
  #fd: number | undefined;
  #lines: string[] = [];
  #length = 0;
  #failure: LiveError | undefined;

  /** @throws LiveError if it cannot be written. */
  constructor(path: string) {
    this.path = path;
    this.#part = `${path}.part`;
    this.#gzipped = path.endsWith('.gz');
    const older = this.#told(() => statSync(path, { throwIfNoEntry: false }));
    if (older?.isFile() === false) throw new LiveError(`--record: ${path} is there, and is no file`);
    this.#fd = this.#told(() => openSync(this.#part, 'w'));
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

  /** All lines have come. @throws LiveError if they could not all be written. */
  finish(): void {
    if (this.#fd === undefined) return;
    this.#flush();
    if (this.#failure !== undefined) throw this.#failure;
    this.#close();
    this.#told(() => renameSync(this.#part, this.path));
  }

  /** Without finish, nothing is left. */
  [Symbol.dispose](): void {
    if (this.#fd === undefined) return;
    this.#close();
    rmSync(this.#part, { force: true });
  }

  #flush(): void {
    const text = this.#lines.map(line => `${line}\n`).join('');
    this.#lines = [];
    this.#length = 0;
    if (text === '' || this.#failure !== undefined || this.#fd === undefined) return;
    // Several gzipped pieces, one after the other, are a gzipped file.
    const bytes = this.#gzipped ? gzipSync(text) : Buffer.from(text);
    const fd = this.#fd;
    this.#told(() => {
      for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
    });
  }

  #close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
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
