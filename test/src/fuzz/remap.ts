/**
 * What an operating system does all the time: a page is in use, its entry changes, an invalidation follows that covers it or just does
 * not, and the page is used again. By chance alone programs hardly ever do this.
 */
import { pathOf } from './damage.js';
import type { Request } from './naive/translate.js';
import type { World } from './world.js';

const ADDRESS = 0xf_ffff_ffff_f000n;

/** Which domain, and PASID in it, a request's translations are tagged with; undefined if its tables do not say. */
function tagOf(world: World, { rid, pasid, address }: Request): { domain: bigint; pasid: bigint } | undefined {
  const path = pathOf(world, rid, pasid, address);
  const context = path.find(({ kind }) => kind === 'context');
  const entry = path.find(({ kind }) => kind === 'pasid');
  if (context === undefined) return undefined;
  if (world.mode === 'legacy') return { domain: (world.memory.quad(context.address + 8n)! >> 8n) & 0xffffn, pasid: 0n };
  if (entry === undefined) return undefined;
  const ridPasid = world.memory.quad(context.address + 8n)! & 0xf_ffffn;
  return {
    domain: world.memory.quad(entry.address + 8n)! & 0xffffn,
    pasid: pasid === -1 ? ridPasid : BigInt(pasid),
  };
}

/** Makes the last entry on a request's way lead elsewhere: to the neighbouring frame of its size, with its accessed bits as they are. */
export function moveLeaf(world: World, { rid, pasid, address }: Request, gene: number): void {
  const leaf = pathOf(world, rid, pasid, address).at(-1);
  if (leaf === undefined || (leaf.kind !== 'first' && leaf.kind !== 'second')) return;
  const entry = world.memory.quad(leaf.address)!;
  // 4 KiB, 2 MiB, 1 GiB: what of the address is the frame's depends on the level; these bits are of all three.
  world.memory.putQuad(leaf.address, entry ^ (((1n + BigInt(gene % 7)) << 30n) & ADDRESS));
}

/** Makes an entry above the last one on a request's way lead elsewhere, or nowhere, or permit less. */
export function moveTable(world: World, { rid, pasid, address }: Request, gene: number): void {
  const tables = pathOf(world, rid, pasid, address)
    .slice(0, -1)
    .filter(({ kind }) => kind === 'first' || kind === 'second');
  const table = tables[(gene >>> 2) % tables.length];
  if (table === undefined) return;
  const [one, other] = table.kind === 'first' ? world.firsts : world.seconds;
  const changes = [one!.root ^ other!.root, 2n, 3n, 4n];
  world.memory.putQuad(table.address, world.memory.quad(table.address)! ^ changes[gene % changes.length]!);
}

/** Bends the context entry or the PASID entry on a request's way, so that it is in order still and yet another one. */
export function moveLookup(world: World, { rid, pasid, address }: Request, gene: number): void {
  const kind = world.mode === 'legacy' || gene % 2 === 0 ? 'context' : 'pasid';
  const entry = pathOf(world, rid, pasid, address).find(each => each.kind === kind);
  if (entry === undefined) return;
  const [one, other] = world.mode === 'first' ? world.firsts : world.seconds;
  const toggle = (quad: bigint, bits: bigint): void => {
    const at = entry.address + quad * 8n;
    world.memory.putQuad(at, world.memory.quad(at)! ^ bits);
  };
  // FPD; PASIDE; or the page tables.
  if (gene % 8 >= 4) toggle(0n, 2n);
  else if (kind === 'context' && world.mode !== 'legacy') toggle(0n, world.facts.pasids ? 8n : 2n);
  else toggle(kind === 'pasid' && world.mode === 'first' ? 2n : 0n, one!.root ^ other!.root);
}

/** The descriptor that follows: of the request's tag or, now and then, of another one; for pages around `around`. */
export function invalidation(
  world: World,
  request: Request,
  around: bigint,
  gene: number,
): readonly bigint[] | undefined {
  const tag = tagOf(world, request);
  if (tag === undefined) return undefined;
  const domain = (gene % 8 === 0 ? tag.domain ^ 1n : tag.domain) << 16n;
  const pasid = (gene % 8 === 1 ? tag.pasid ^ 1n : tag.pasid) << 32n;
  const mask = BigInt((gene >>> 4) % 4 === 0 ? (gene >>> 6) % 19 : (gene >>> 6) % 4);
  const hint = (gene >>> 9) % 2 === 0 ? 0x40n : 0n;
  const pages = (around & ~0xfffn) | hint | mask;
  const source = BigInt(request.rid ^ ((gene >>> 3) % 4 === 0 ? (gene >>> 5) & 7 : 0)) << 32n;
  const device = 0x31n | domain | source | (BigInt((gene >>> 7) & 3) << 48n);
  const kinds: (readonly [bigint, bigint])[] = [
    [device, 0n],
    [0x21n | domain, 0n],
    [0x22n | domain, 0n],
    [0x32n | domain, pages],
    [0x32n | domain, pages],
  ];
  if (world.mode !== 'legacy') {
    kinds.push([0x26n | domain | pasid, 0n], [0x36n | domain | pasid, pages], [0x36n | domain | pasid, pages]);
    kinds.push([0x07n | domain, 0n], [0x17n | domain | pasid, 0n]);
  }
  const [low, high] = kinds[(gene >>> 11) % kinds.length]!;
  return [low, high, 0n, 0n];
}
