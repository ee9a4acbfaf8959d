/**
 * Reads a recording, gzipped or plain, operation by operation; never the whole file at once. Strict: whatever is not the format
 * ends in a TraceError that names the line.
 */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { TraceError } from './trace-error.js';
import { COMMAND, END, HEADER_FORM, parseHeader, type TraceHeader, TRUNCATED } from './trace-header.js';
import { excerpt } from './trace-line.js';
import { type TraceOperation, TraceOperations } from './trace-operations.js';

/** Hears how much of a file was read. */
export type Progress = (bytes: number, total: number) => void;

/** Command lines are long, other lines are not; a file without line ends is no recording. */
const MAX_LINE = 0x1_0000;

/** Reads `file`: its header first, then its operations. */
export async function* readTrace(
  file: string,
  onProgress?: Progress,
): AsyncGenerator<TraceHeader | TraceOperation, void> {
  let number = 0;
  let first = '';
  let header: TraceHeader | undefined;
  let ended = false;
  const operations = new TraceOperations(file);
  for await (const text of readLines(file, onProgress)) {
    number++;
    if (ended) throw new TraceError(file, number, `expected nothing after "# end", found ${excerpt(text)}`);
    if (number === 1) {
      parseHeader(file, text, undefined);
      first = text;
      continue;
    }
    const isCommand = number === 2 && text.startsWith(COMMAND);
    if (header === undefined) yield (header = parseHeader(file, first, isCommand ? text : undefined));
    if (isCommand) continue;
    if (text === END) {
      ended = true;
      continue;
    }
    if (text === TRUNCATED)
      throw new TraceError(file, number, `the recording was cut off: expected "${END}", found "${TRUNCATED}"`);
    const complete = operations.add(text, number);
    if (complete !== undefined) yield complete;
  }
  if (number === 0) throw new TraceError(file, 1, `expected ${HEADER_FORM}, found an empty file`);
  if (!ended) throw new TraceError(file, number, 'the recording is truncated: expected "# end" after this line');
  if (operations.last !== undefined) yield operations.last;
}

/** The lines of a file. A last line without a line end is given as it is. */
async function* readLines(file: string, onProgress?: Progress): AsyncGenerator<string> {
  const { size, gzipped } = await probe(file);
  const input = createReadStream(file);
  let read = 0;
  input.on('data', chunk => onProgress?.((read += chunk.length), size));
  const bytes = gzipped ? input.pipe(createGunzip()) : input;
  if (bytes !== input) input.on('error', error => bytes.destroy(error));
  let rest = '';
  let number = 1;
  try {
    for await (const chunk of bytes) {
      const lines = (rest + (chunk as Buffer).toString('latin1')).split('\n');
      rest = lines.pop()!;
      if (rest.length > MAX_LINE)
        throw new TraceError(file, number + lines.length, `expected a line, found ${excerpt(rest)}`);
      for (const line of lines) {
        number++;
        yield line;
      }
    }
  } catch (error) {
    if (error instanceof TraceError) throw error;
    const problem = gzipped ? 'expected more gzipped text' : 'cannot be read';
    throw new TraceError(file, number, `${problem}: ${(error as Error).message}`, { cause: error });
  } finally {
    input.destroy();
  }
  if (rest !== '') yield rest;
}

async function probe(file: string): Promise<{ size: number; gzipped: boolean }> {
  try {
    const handle = await open(file);
    try {
      const stat = await handle.stat();
      if (!stat.isFile()) throw new TraceError(file, 0, 'expected a recording, found something that is not a file');
      const magic = Buffer.alloc(2);
      await handle.read(magic, 0, 2, 0);
      return { size: stat.size, gzipped: magic[0] === 0x1f && magic[1] === 0x8b };
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof TraceError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    const problem = code === 'ENOENT' ? 'no such file' : code === 'EACCES' ? 'permission denied' : message;
    throw new TraceError(file, 0, problem, { cause: error });
  }
}
