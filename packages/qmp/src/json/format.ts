/** `value` as one line of JSON; a BigInt is an integer, a member that is undefined is left out. */
export function formatJson(value: unknown): string {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'number') return Number.isFinite(value) ? String(value) : 'null';
  if (typeof value === 'string') return wellFormed(JSON.stringify(value));
  if (typeof value === 'boolean') return value ? 'true' : 'false';
  if (Array.isArray(value)) return `[${value.map(formatJson).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return 'null';
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}: ${formatJson(member)}`).join(', ')}}`;
}

/** JSON on a wire that carries bytes: whatever is not ASCII is escaped, as QEMU does. */
function wellFormed(text: string): string {
  return text.replace(/[\u007f-\uffff]/g, letter => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
