/** Two VMs on one host that use the same numbers everywhere: neither reaches anything of the other, dead or alive. */
import test from 'ava';
import { ConfigError, Errno } from '@remora/core';
import type { HostProcess, SimulatedHost } from '@remora/host-sim';
import type { Host } from '@remora/machine';
import { lendingHost, SECOND_ENGINE } from '@remora/machines';
import { owner } from '@remora/testing';
import {
  BIND,
  CACHE_INVALIDATE,
  flushPasid,
  PASID_REQUEST,
  pasidAlloc,
  pasidFree,
  unbind,
} from '../behaviours/host-bytes.js';
import { Rig, type RigOptions } from '../rig/rig.js';
import { changedFrames, guestMemory, hostBytes, hostFrame } from './host-memory.js';
import { Reason, refused, SECOND_ENGINE_ID } from './physical-fault.js';
import { pattern, SharedSpace } from './shared-space.js';

const MIB = 0x10_0000;
const PAGE = 4096;
const AT = 0x1_0000_0000;
/** The same guest frame in both guests. */
const FRAME = 0xa00;
const OTHER_FRAME = 0xb00;
const FILL = 0xa1b2_c3d4;

/** Small, so that all of its memory can be compared. */
function smallHost(): Host<SimulatedHost> {
  return lendingHost({ memory: 64 * MIB });
}

/** A VM with the host's second engine, where the other one has the first. */
function neighbour(host: Host<SimulatedHost>, options: RigOptions = {}): Rig {
  return new Rig({ host, functions: [{ addr: '03.0', host: SECOND_ENGINE }], ...options });
}

test('two guests alike, down to the addresses of their tables: each DMA changes its own page and nothing else', t => {
  const own = owner(t);
  const host = own(smallHost());
  const rigs = [own(new Rig({ host })), own(neighbour(host))] as const;
  const spaces = rigs.map(rig => new SharedSpace(rig).bind());
  const [one, other] = [spaces[0]!, spaces[1]!];
  t.deepEqual([one.root, one.did], [other.root, other.did]);
  t.not(one.pasid, other.pasid);
  for (const space of spaces) space.map(AT, FRAME);
  for (const [index, space] of spaces.entries()) {
    const rig = rigs[index]!;
    const within = changedFrames(host.platform, () => {
      t.true(space.engine.fill({ pasid: space.pasid, to: AT * PAGE, length: 64, pattern: FILL + index }).ok);
    });
    t.deepEqual(within, [hostFrame(rig, FRAME)]);
    const plain = changedFrames(host.platform, () => {
      t.true(space.engine.fill({ to: (FRAME + 1) * PAGE, length: 64, pattern: FILL + index }).ok);
    });
    t.deepEqual(plain, [hostFrame(rig, FRAME + 1)]);
  }
  t.deepEqual([hostBytes(rigs[0], FRAME, 1), hostBytes(rigs[1], FRAME, 1)], [Uint8Array.of(0xd4), Uint8Array.of(0xd5)]);
  const domains = (host.platform.dump()['iommu'] as { domains: { id: number }[] }).domains.map(({ id }) => id);
  t.is(new Set(domains).size, 2, 'one guest domain id, two of the host');
  t.false(domains.includes(one.did));
});

test("another VM's PASIDs and addresses reach nothing of it", t => {
  const own = owner(t);
  const host = own(smallHost());
  // In this order the victim's pages come to lie beyond the guest-physical addresses of the attacker.
  const attacker = own(neighbour(host));
  const victim = own(new Rig({ host }));
  const theirs = new SharedSpace(victim).bind();
  const mine = new SharedSpace(attacker).bind();
  const secret = hostFrame(victim, FRAME);
  t.true(secret >= attacker.machine.board.ram.frames);
  theirs.map(AT, FRAME);
  t.true(theirs.deviceWrites(AT, pattern(256)).ok);

  const before = guestMemory(victim);
  const attempts = [
    { pasid: theirs.pasid, to: AT * PAGE },
    { pasid: theirs.pasid, to: FRAME * PAGE },
    { pasid: theirs.pasid, to: secret * PAGE },
    { pasid: mine.pasid, to: AT * PAGE },
    { pasid: mine.pasid, to: secret * PAGE },
    { to: secret * PAGE },
    { to: AT * PAGE },
  ];
  for (const attempt of attempts) {
    t.false(mine.engine.fill({ ...attempt, length: 64, pattern: FILL }).ok, JSON.stringify(attempt));
  }
  // The attacker's own table names the victim's host page.
  mine.map(AT + 1, secret);
  t.false(mine.engine.fill({ pasid: mine.pasid, to: (AT + 1) * PAGE, length: 64, pattern: FILL }).ok);
  t.true(Buffer.from(guestMemory(victim)).equals(before));

  const requesterId = SECOND_ENGINE_ID;
  const [directory, absent, second] = [
    Reason.DIRECTORY_ENTRY_NOT_PRESENT,
    Reason.FIRST_STAGE_NOT_PRESENT,
    Reason.SECOND_STAGE_NOT_PRESENT,
  ];
  const faults = host.platform.takeFaults();
  t.deepEqual(faults.slice(3), [
    refused(absent, { requesterId, pasid: mine.pasid, frame: AT, write: true }),
    refused(absent, { requesterId, pasid: mine.pasid, frame: secret, write: true }),
    refused(second, { requesterId, frame: secret, write: true }),
    refused(second, { requesterId, frame: AT, write: true }),
    refused(second, { requesterId, pasid: mine.pasid, frame: AT + 1, write: true }),
  ]);
  // Whether their PASIDs share a table of the host depends on the numbers.
  for (const fault of faults.slice(0, 3)) {
    t.like(fault, { requesterId, pasid: theirs.pasid, write: true });
    t.true(fault.reason === directory || fault.reason === Reason.PASID_ENTRY_NOT_PRESENT);
  }
  t.deepEqual(theirs.deviceReads(AT, 256), pattern(256));
});

test("a PASID of another VM cannot be bound, unbound, flushed or freed, and stays that VM's", t => {
  const own = owner(t);
  const host = own(smallHost());
  const owning = own(new Rig({ host }));
  const stranger = own(neighbour(host));
  const theirs = new SharedSpace(owning).bind();
  const mine = new SharedSpace(stranger).bind();
  theirs.map(AT, FRAME);
  t.true(theirs.deviceWrites(AT, pattern(64)).ok);
  const before = host.platform.dump();

  stranger.entry(theirs.pasid, { did: 7, root: mine.root });
  stranger.refused(stranger.descriptor.pasidCache(1, 7, theirs.pasid));
  const bind = stranger.log.calls.at(-1)!;
  t.deepEqual([bind.request, bind.result], [BIND, -Errno.EACCES]);
  t.deepEqual(host.platform.dump(), before);
  stranger.goOn();

  stranger.take();
  stranger.pasidIotlb(2, 7, theirs.pasid);
  t.deepEqual(stranger.take(), [], 'not bound here: nothing to flush');
  t.true(stranger.guest.iommu.freePasid(theirs.pasid) < 0);
  t.deepEqual(stranger.take(), [pasidFree(theirs.pasid)]);
  t.is(stranger.log.calls.at(-1)!.result, -Errno.EACCES);
  // What a VMM without our vIOMMU would try.
  const { syscalls, vfio } = stranger.machine.process!;
  const raw = (request: number, { bytes }: { bytes: string }): number =>
    syscalls.ioctl(vfio.containers[0]!.fd, request, Uint8Array.from(Buffer.from(bytes, 'hex')));
  t.is(raw(BIND, unbind(theirs.pasid)), -Errno.EACCES);
  t.is(raw(PASID_REQUEST, pasidFree(theirs.pasid)), -Errno.EACCES);
  t.is(raw(CACHE_INVALIDATE, flushPasid(theirs.pasid)), -Errno.EINVAL);

  t.deepEqual(host.platform.dump(), before);
  t.deepEqual(theirs.deviceReads(AT, 64), pattern(64));
  mine.map(AT, FRAME);
  t.true(mine.deviceWrites(AT, pattern(64, 2)).ok, 'and its own works as before');
});

test('one VM ends with live bindings; the other goes on, and the first one can come back', t => {
  const own = owner(t);
  const host = own(smallHost());
  const lasting = own(neighbour(host));
  const space = new SharedSpace(lasting).bind();
  space.map(AT, FRAME);
  const alone = host.platform.dump();

  for (const round of [1, 2]) {
    const passing = new Rig({ host });
    const theirs = new SharedSpace(passing).bind();
    theirs.map(AT, FRAME);
    t.true(theirs.deviceWrites(AT, pattern(64, round)).ok);
    t.is(lasting.host.pasids().length, 2);
    passing[Symbol.dispose]();
    t.deepEqual(host.platform.dump(), alone, 'its PASIDs, bindings, mappings, pins and tables are gone');

    t.true(space.deviceWrites(AT, pattern(64, 10 + round)).ok);
    t.deepEqual(hostBytes(lasting, FRAME, 64), pattern(64, 10 + round));
    space.remap(AT);
    space.flushPages(AT);
    t.deepEqual(space.deviceReads(AT, 64), new Uint8Array(64));
    space.unmap(AT);
    space.map(AT, FRAME);
    space.flushPages(AT);
  }
});

test('a process that is killed leaves nothing on the host, whatever its VM still does', t => {
  const own = owner(t);
  const host = own(smallHost());
  const lasting = own(neighbour(host));
  const alone = host.platform.dump();
  let process: HostProcess | undefined;
  const killed = own(new Rig({ host, interpose: syscalls => (process = syscalls as HostProcess) }));
  const theirs = new SharedSpace(killed).bind();
  theirs.map(AT, FRAME);
  t.true(theirs.deviceWrites(AT, pattern(64)).ok);
  process![Symbol.dispose]();
  t.deepEqual(host.platform.dump(), alone);

  const engine = host.platform.function('0000:3f:00.0');
  engine.config.write(4, 6, 2);
  t.not(engine.dma.write(0, FRAME * PAGE, Uint8Array.of(1)), 0);
  t.not(engine.dma.write(AT / 0x10_0000, 0, Uint8Array.of(1), theirs.pasid), 0);
  engine.config.write(4, 0, 2);
  // Whatever the VM does on its way out is answered.
  t.true(killed.guest.iommu.allocPasid() < 0);
  t.is(theirs.engine.read(0), 0xffff_ffff);
  killed.machine.reset();
  killed.machine.unplug(killed.deviceId());
  t.throws(() => killed.machine.plug(killed.deviceString()), { instanceOf: ConfigError });
  t.deepEqual(host.platform.dump(), alone);
  const space = new SharedSpace(lasting).bind();
  space.map(AT, FRAME);
  t.true(space.deviceWrites(AT, pattern(64)).ok);
});

test('memory of a VM that is gone is zero when the next one gets it', t => {
  const own = owner(t);
  const host = own(smallHost());
  const first = new Rig({ host });
  const { ram } = first.machine.board;
  t.is(ram.write(0, 0, new Uint8Array(ram.size).fill(0xaa)), 0);
  const had = new Set(Array.from({ length: ram.frames }, (_, frame) => hostFrame(first, frame)));
  first[Symbol.dispose]();

  const second = own(new Rig({ host, start: false }));
  const reused = Array.from({ length: ram.frames }, (_, frame) => hostFrame(second, frame)).filter(frame =>
    had.has(frame),
  );
  t.true(reused.length > 1000, `${reused.length} frames were the first one's`);
  t.true(Buffer.alloc(ram.size).equals(guestMemory(second)));
});

for (const end of ['is closed', 'is killed']) {
  test(`numbers that come back: a VM ${end}, the next one has its device, domain id and PASID, and sees nothing of it`, t => {
    const own = owner(t);
    const host = own(smallHost());
    let process: HostProcess | undefined;
    const first = own(new Rig({ host, interpose: syscalls => (process = syscalls as HostProcess) }));
    const old = new SharedSpace(first).bind();
    old.map(AT, FRAME);
    t.true(old.deviceWrites(AT, pattern(64)).ok);
    t.true(old.engine.fill({ to: FRAME * PAGE, length: 4, pattern: FILL }).ok);
    const domainOf = (): unknown => (host.platform.dump()['iommu'] as { domains: { id: number }[] }).domains[0]!.id;
    const domain = domainOf();
    const page = hostFrame(first, FRAME);
    if (end === 'is killed') process![Symbol.dispose]();
    first[Symbol.dispose]();
    // Whoever comes between gets the pages that tables were in: they must not be the tables of the next VM by chance.
    t.not(typeof host.platform.process('between').mmap(64 * PAGE), 'number');

    const second = own(new Rig({ host }));
    t.is(domainOf(), domain);
    // The guest asks for any PASID; its VMM can ask for that one.
    const { syscalls, vfio } = second.machine.process!;
    const request = Buffer.from(pasidAlloc(old.pasid, old.pasid).bytes, 'hex');
    t.is(syscalls.ioctl(vfio.containers[0]!.fd, PASID_REQUEST, request), 0);
    const space = new SharedSpace(second, { pasid: old.pasid }).bind();
    t.is(space.deviceReads(AT, 64), undefined);
    t.deepEqual(host.platform.takeFaults(), [refused(Reason.FIRST_STAGE_NOT_PRESENT, { pasid: old.pasid, frame: AT })]);
    // What the unit had cached of either stage would lead to a page of the first VM.
    space.map(AT, OTHER_FRAME);
    const frames = [OTHER_FRAME, FRAME].map(frame => hostFrame(second, frame));
    t.false(frames.includes(page));
    const commands = [{ pasid: space.pasid, to: AT * PAGE }, { to: FRAME * PAGE }];
    for (const [index, command] of commands.entries()) {
      const changed = changedFrames(host.platform, () => {
        t.true(space.engine.fill({ ...command, length: 4, pattern: FILL }).ok);
      });
      t.deepEqual(changed, [frames[index]]);
    }
  });
}
