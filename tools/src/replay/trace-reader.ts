/**
 * Reads a recording, gzipped or plain, operation by operation; never the whole file at once. Strict: whatever is not the format
 * ends in a TraceError that names the line.
 */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { TraceError } from './trace-error.js';
import { excerpt, parseTraceLine, type TraceLine } from './trace-line.js';
import { parseWords, type Words } from './words.js';

/** A top-level line and what happened during it. */
export interface TraceOperation {
  readonly line: TraceLine;
  readonly nested: readonly TraceLine[];
}

/** The first lines of a recording: what was recorded. */
export interface TraceHeader {
  readonly cap: Words;
  readonly ecap: Words;
  readonly addressWidth: number;
  readonly cachingMode: boolean;
  readonly scalableMode: boolean;
  readonly firstStage: boolean;
  readonly pasidMode: boolean;
  /** Properties of `-device intel-iommu` on the recorded command line. */
  readonly options: ReadonlyMap<string, string>;
}

/** Hears how much of a file was read. */
export type Progress = (bytes: number, total: number) => void;

const HEADER =
  /^# vtd-trace 1 qemu \S+ cap=([0-9a-f]{1,16}) ecap=([0-9a-f]{1,16}) aw=(\d{2}) cm=([01]) sm=([01]) flts=([01]) pasid=([01])$/;
const HEADER_FORM = '"# vtd-trace 1 qemu VERSION cap=.. ecap=.. aw=.. cm=.. sm=.. flts=.. pasid=.."';
/** Command lines are long, other lines are not; a file without line ends is no recording. */
const MAX_LINE = 0x1_0000;

/** Parses line 1. @throws TraceError */
export function parseHeader(file: string, first: string, second: string | undefined): TraceHeader {
  const match = HEADER.exec(first);
  if (match === null) throw new TraceError(file, 1, `expected ${HEADER_FORM}, found ${excerpt(first)}`);
  const [, cap, ecap, width, caching, scalable, firstStage, pasid] = match;
  return {
    cap: parseWords(cap!),
    ecap: parseWords(ecap!),
    addressWidth: Number(width),
    cachingMode: caching === '1',
    scalableMode: scalable === '1',
    firstStage: firstStage === '1',
    pasidMode: pasid === '1',
    options: deviceOptions(second ?? ''),
  };
}

/** Reads `file`: its header first, then its operations. */
export async function* readTrace(
  file: string,
  onProgress?: Progress,
): AsyncGenerator<TraceHeader | TraceOperation, void> {
  let number = 0;
  let first = '';
  let header: TraceHeader | undefined;
  let ended = false;
  let line: TraceLine | undefined;
  let nested: TraceLine[] = [];
  for await (const text of readLines(file, onProgress)) {
    number++;
    if (ended) throw new TraceError(file, number, `expected nothing after "# end", found ${excerpt(text)}`);
    if (number === 1) {
      parseHeader(file, text, undefined);
      first = text;
      continue;
    }
    const isCommand = number === 2 && text.startsWith('# cmd ');
    if (header === undefined) yield (header = parseHeader(file, first, isCommand ? text : undefined));
    if (isCommand) continue;
    if (text === '# end') {
      ended = true;
      continue;
    }
    if (text === '# truncated')
      throw new TraceError(file, number, 'the recording was cut off: expected "# end", found "# truncated"');
    const depth = text.search(/[^ ]|$/);
    const parsed = parseTraceLine(text.slice(depth), number, depth > 0);
    if (typeof parsed === 'string') throw new TraceError(file, number, parsed);
    if (depth === 0) {
      if (line !== undefined) yield { line, nested };
      line = parsed;
      nested = [];
    } else if (line === undefined) {
      throw new TraceError(file, number, `expected a line that is not indented before ${excerpt(text)}`);
    } else {
      nested.push(parsed);
    }
  }
  if (number === 0) throw new TraceError(file, 1, `expected ${HEADER_FORM}, found an empty file`);
  if (!ended) throw new TraceError(file, number, 'the recording is truncated: expected "# end" after this line');
  if (line !== undefined) yield { line, nested };
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

/** `a=1` and `b=2` of `... -device intel-iommu,a=1,b=2 ...`. */
function deviceOptions(command: string): ReadonlyMap<string, string> {
  const properties = /-device intel-iommu,(\S+)/.exec(command)?.[1] ?? '';
  return new Map(
    properties
      .split(',')
      .filter(property => property.includes('='))
      .map(property => [property.slice(0, property.indexOf('=')), property.slice(property.indexOf('=') + 1)] as const),
  );
}
