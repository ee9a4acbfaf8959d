/** VERSION: what a client proposes, and what is agreed. */
import { Errno } from '@remora/core';
import { viewOf } from '@remora/uapi';
import { MAX_DATA_XFER_SIZE, MAX_DMA_MAPS, PAGE_SIZE, Version, VERSION_MAJOR, VERSION_MINOR } from './protocol.js';

/** What holds for the rest of the connection. */
export interface Agreed {
  /** REGION_WRITE_MULTI may be used. */
  readonly writeMultiple: boolean;
  /** How many bytes of data the client takes in one message. */
  readonly clientTakes: number;
}

/** What this server has to say to each capability, if the client speaks of it. */
const ANSWERS: Readonly<Record<string, number | boolean>> = {
  max_data_xfer_size: MAX_DATA_XFER_SIZE,
  max_dma_maps: MAX_DMA_MAPS,
  pgsizes: PAGE_SIZE,
  write_multiple: true,
};

/**
 * Answers the payload of a VERSION message. Returns a Linux error number for another major version (EOPNOTSUPP) and for what is not
 * well-formed (EINVAL); capabilities that this server does not know are left out of the answer. `fds`: descriptors that it takes with one
 * message.
 */
export function negotiate(
  payload: Uint8Array,
  fds = 0,
): { readonly reply: Uint8Array; readonly agreed: Agreed } | number {
  if (payload.length < Version.size) return Errno.EINVAL;
  const view = viewOf(payload);
  if (Version.fields.major.get(view) !== VERSION_MAJOR) return Errno.EOPNOTSUPP;
  const proposed = capabilitiesIn(payload.subarray(Version.size));
  if (proposed === undefined || !wellFormed(proposed)) return Errno.EINVAL;
  const capabilities: Record<string, number | boolean> = {};
  const answers = fds === 0 ? ANSWERS : { ...ANSWERS, max_msg_fds: fds };
  for (const [name, answer] of Object.entries(answers)) {
    if (proposed[name] !== undefined && proposed[name] !== false) capabilities[name] = answer;
  }
  const text = new TextEncoder().encode(`${JSON.stringify({ capabilities })}\0`);
  const reply = new Uint8Array(Version.size + text.length);
  Version.write(viewOf(reply), {
    major: VERSION_MAJOR,
    minor: Math.min(Version.fields.minor.get(view), VERSION_MINOR),
  });
  reply.set(text, Version.size);
  const clientTakes = (proposed['max_data_xfer_size'] as number | undefined) ?? MAX_DATA_XFER_SIZE;
  return { reply, agreed: { writeMultiple: capabilities['write_multiple'] === true, clientTakes } };
}

/** The capabilities in a NUL-terminated JSON text; none if there is no text. Undefined if it is not that. */
function capabilitiesIn(text: Uint8Array): Record<string, unknown> | undefined {
  if (text.length === 0) return {};
  if (text.at(-1) !== 0) return undefined;
  try {
    const data: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text.subarray(0, -1)));
    if (!isObject(data)) return undefined;
    const capabilities = data['capabilities'] ?? {};
    return isObject(capabilities) ? capabilities : undefined;
  } catch {
    return undefined;
  }
}

function wellFormed(proposed: Record<string, unknown>): boolean {
  for (const name of ['max_data_xfer_size', 'max_dma_maps', 'pgsizes', 'max_msg_fds']) {
    const value = proposed[name];
    if (value !== undefined && !(Number.isInteger(value) && (value as number) >= 0)) return false;
  }
  const multiple = proposed['write_multiple'];
  return multiple === undefined || typeof multiple === 'boolean';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
