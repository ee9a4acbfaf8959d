import type { Region } from './memory/region.js';

/** A region tree as text, in the form of QEMU's `info mtree`: first and last address, priority, kind, name. */
export function formatTree(name: string, root: Region): string {
  const lines = [`address-space: ${name}`];
  describe(root, 0n, 0, 1, lines);
  return lines.join('\n');
}

function describe(region: Region, base: bigint, priority: number, level: number, lines: string[]): void {
  const shows =
    region.target === undefined ? '' : ` @${region.target.name} ${span(BigInt(region.targetOffset), region.size)}`;
  const off = region.enabled ? '' : ' [disabled]';
  lines.push(
    `${'  '.repeat(level)}${span(base, region.size)} (prio ${priority}, ${region.kind}): ${region.name}${shows}${off}`,
  );
  const children = [...region.children].sort((a, b) => a.offset - b.offset || b.priority - a.priority);
  for (const child of children) describe(child.region, base + BigInt(child.offset), child.priority, level + 1, lines);
}

function span(base: bigint, size: number): string {
  return `${digits(base)}-${digits(base + BigInt(size) - 1n)}`;
}

function digits(address: bigint): string {
  return address.toString(16).padStart(16, '0');
}
