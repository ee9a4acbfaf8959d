/**
 * State files. Little-endian:
 *
 *     8  magic
 *     4  version of this layout
 *     4  length of the header
 *     8  length of the file
 *        header, JSON (StateHeader)
 *     8  length of the sections, unpacked and deflated (u32 each)
 *        sections, deflated
 *        pages of RAM (ram-pages.ts)
 *    32  SHA-256 of all before
 *
 * The same state gives the same bytes, under the same zlib.
 */
import { createHash } from 'node:crypto';
import { deflateSync } from 'node:zlib';
import { sectionBytes, sectionFrom, StateError, type Ram, type StateSection } from '@remora/core';
import { inflated, writePages } from './ram-pages.js';
import { parseHeader, type StateHeader } from './state-header.js';

/** Not text, and spoilt by whatever changes line ends or cuts bit 7 off. */
const MAGIC = Uint8Array.of(0x89, 0x52, 0x4d, 0x53, 0x0d, 0x0a, 0x1a, 0x0a);
export const STATE_FORMAT = 1;
const FIXED_BYTES = 24;
const LENGTHS_BYTES = 8;
const DIGEST_BYTES = 32;
/** Bounds on what a file may make this process allocate, besides the machine's RAM. */
const MAX_HEADER = 4 * 0x10_0000;
const MAX_SECTIONS = 256 * 0x10_0000;

/** A file that has been checked and taken apart; its RAM is still packed. */
export interface StateFile {
  readonly header: StateHeader;
  readonly sections: StateSection;
  readonly pages: Uint8Array;
  /** For messages. */
  readonly path: string;
}

export function stateBytes(header: Omit<StateHeader, 'ram'>, sections: StateSection, ram: Ram): Uint8Array {
  const parts: Uint8Array[] = [];
  const pages = writePages(ram, part => parts.push(part));
  const text = new TextEncoder().encode(JSON.stringify({ ...header, ram: { bytes: ram.size, pages } }));
  const plain = sectionBytes(sections);
  const deflated = deflateSync(plain);
  const lengths = new DataView(new ArrayBuffer(LENGTHS_BYTES));
  lengths.setUint32(0, plain.length, true);
  lengths.setUint32(4, deflated.length, true);
  parts.unshift(text, new Uint8Array(lengths.buffer), deflated);
  const length = parts.reduce((sum, part) => sum + part.length, FIXED_BYTES + DIGEST_BYTES);
  const file = new Uint8Array(length);
  const view = new DataView(file.buffer);
  file.set(MAGIC);
  view.setUint32(8, STATE_FORMAT, true);
  view.setUint32(12, text.length, true);
  view.setBigUint64(16, BigInt(length), true);
  let at = FIXED_BYTES;
  for (const part of parts) {
    file.set(part, at);
    at += part.length;
  }
  file.set(digestOf(file.subarray(0, at)), at);
  return file;
}

/**
 * Checks a file from end to end and takes it apart. `path` is its name, for messages.
 * @throws StateError if it is no state file, of a newer layout, truncated or damaged.
 */
export function openState(file: Uint8Array, path = 'state'): StateFile {
  checkMagic(file.subarray(0, MAGIC.length), path);
  if (file.length < FIXED_BYTES + LENGTHS_BYTES + DIGEST_BYTES)
    throw new StateError(path, `is truncated: only ${file.length} bytes are left`);
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const format = view.getUint32(8, true);
  if (format !== STATE_FORMAT)
    throw new StateError(path, `is of format ${format}, and this Remora reads format ${STATE_FORMAT}`);
  const length = view.getBigUint64(16, true);
  if (length > BigInt(file.length))
    throw new StateError(path, `is truncated: ${file.length} of ${length} bytes are left`);
  if (length < BigInt(file.length)) throw new StateError(path, `has ${BigInt(file.length) - length} bytes too many`);
  const end = file.length - DIGEST_BYTES;
  if (Buffer.compare(digestOf(file.subarray(0, end)), file.subarray(end)) !== 0)
    throw new StateError(path, 'is damaged: its checksum is wrong');
  const headerEnd = FIXED_BYTES + view.getUint32(12, true);
  if (headerEnd > FIXED_BYTES + MAX_HEADER || headerEnd + LENGTHS_BYTES > end)
    throw new StateError(path, `is damaged: its header would end at byte ${headerEnd}`);
  const header = parseHeader(new TextDecoder().decode(file.subarray(FIXED_BYTES, headerEnd)), path);
  const plain = view.getUint32(headerEnd, true);
  const sectionsEnd = headerEnd + LENGTHS_BYTES + view.getUint32(headerEnd + 4, true);
  if (plain > MAX_SECTIONS || sectionsEnd > end)
    throw new StateError(path, `is damaged: its sections would end at byte ${sectionsEnd}`);
  const sections = inflated(file.subarray(headerEnd + LENGTHS_BYTES, sectionsEnd), plain);
  if (sections === undefined) throw new StateError(path, 'is damaged: its sections do not unpack to what they say');
  return { header, sections: sectionFrom(sections, path), pages: file.subarray(sectionsEnd, end), path };
}

/** Whether `start`, the first bytes of a file, begins one of these. @throws StateError if it does not. */
export function checkMagic(start: Uint8Array, path: string): void {
  if (start.length >= MAGIC.length && MAGIC.every((byte, index) => start[index] === byte)) return;
  const cut = start.length < MAGIC.length && start.every((byte, index) => byte === MAGIC[index]);
  throw new StateError(
    path,
    cut ? `is truncated: only ${start.length} bytes are left` : 'is not a state file of Remora',
  );
}

function digestOf(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}
