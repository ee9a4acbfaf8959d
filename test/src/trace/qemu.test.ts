/**
 * The same programs on a real QEMU 10.0 and on `remora-system-x86_64`: the same events, one after the other, with the same numbers.
 *
 * QEMU carries a transfer that is refused out in pieces of four bytes and asks for each of them. Here one piece is asked for: of the events
 * of requests, QEMU may have more, at the end of a row of them.
 */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import {
  askQemu,
  compile,
  CONFIGS,
  generate,
  type Line,
  machineArguments,
  QemuPeer,
  TRANSFER_NS,
} from '@remora/tools/diff';
import { findQemu } from '../qmp/real-qemu.js';
import { PROGRAM } from '../qtest/program-under-test.js';
import { runSync } from '../rig/processes.js';

interface Event {
  readonly name: string;
  readonly line: string;
  readonly numbers: readonly bigint[];
}

/** Asked of every device of QEMU's board, whenever tables may have changed. */
const BOARD = ['vtd_switch_address_space', 'vtd_re_not_present', 'vtd_ce_not_present', 'vtd_inv_desc_cc_device'];
/** Declared by QEMU 10.0, and not printed. */
const UNPRINTED = ['vtd_inv_desc_iotlb_pasid', 'vtd_inv_desc_iotlb_pasid_pages'];
/** QEMU 10.0 prints no vtd_inv_desc for the first; the others are refused before or after it, by the width of the queue. */
const TYPES = /^vtd_inv_desc .*\b(pasid-cache|p-iotlb|device-piotlb) /;
const REQUEST = /^vtd_(iotlb_(cc|page)_(hit|update)|dmar_translate|dmar_fault|frr_new|fault_disabled|translate_pt)$/;
/** How many of the first numbers are compared, where not all are: QEMU goes on with entries, and counts of its own. */
const COMPARED: Readonly<Record<string, number>> = {
  vtd_iotlb_cc_hit: 2,
  vtd_iotlb_cc_update: 2,
  // Requester and address; then come PASID or entry.
  vtd_iotlb_page_hit: 1,
  vtd_iotlb_page_update: 1,
  // "dev 00:02.00" there.
  vtd_dmar_translate: 0,
  vtd_inv_desc_wait_irq: 0,
};

/** From the last reset on. For QEMU a domain's context entries are all of them in legacy mode, too: it prints two events. */
function eventsIn(file: string): Event[] {
  const lines = readFileSync(file, 'utf8').trim().split('\n');
  return lines
    .slice(lines.findLastIndex(line => line.startsWith('vtd_reset_exit')))
    .map(line => {
      const [name = '', ...rest] = line.trimEnd().split(' ');
      // Words that hold digits are no numbers; ours have a name before each.
      const values = rest.map(word => word.slice(word.indexOf('=') + 1)).join(' ');
      return { name, line, numbers: [...values.matchAll(/0x[0-9a-f]+|\b\d+\b/g)].map(([number]) => BigInt(number)) };
    })
    .filter(
      ({ name, line }) => !BOARD.includes(name) && !UNPRINTED.includes(name) && !TYPES.test(line.replaceAll('=', ' ')),
    )
    .filter(({ name }, at, all) => name !== 'vtd_inv_desc_cc_global' || all[at - 1]?.name !== 'vtd_inv_desc_cc_domain');
}

function agree(a: Event, b: Event): boolean {
  const count = COMPARED[a.name] ?? Infinity;
  return a.name === b.name && a.numbers.slice(0, count).join() === b.numbers.slice(0, count).join();
}

/** Of a row of events of requests; the bit of FSTS goes with a new record. */
function ofRequest(events: readonly Event[], at: number): boolean {
  const name = events[at]?.name ?? '';
  return REQUEST.test(name) || (name === 'vtd_fsts_ppf' && events[at - 1]?.name === 'vtd_frr_new');
}

/** The first place where they differ, with what is around it; and how many agree. */
function compareEvents(theirs: readonly Event[], ours: readonly Event[]): { agreed: number; differ?: string[] } {
  let [i, j, agreed] = [0, 0, 0];
  while (i < theirs.length || j < ours.length) {
    const [a, b] = [theirs[i], ours[j]];
    if (a !== undefined && b !== undefined && agree(a, b)) [i, j, agreed] = [i + 1, j + 1, agreed + 1];
    else if (ofRequest(theirs, i) && !ofRequest(ours, j)) i++;
    else
      return { agreed, differ: [...theirs.slice(i - 3, i + 2), ...ours.slice(j - 3, j + 2)].map(({ line }) => line) };
  }
  return { agreed };
}

/** Of four bytes, a transfer is one piece for QEMU, too. */
function inOnePiece({ text, ...line }: Line): Line {
  return { ...line, text: text.replace(/^(writeq 0xe0[01]00090) 0x8$/, '$1 0x4') };
}

const qemu = findQemu();
const version = 'program' in qemu ? runSync(qemu.program, ['--version']).stdout : '';
const ifPresent = / 10\.0\./.test(version) ? test.serial : test.serial.skip;

for (const config of CONFIGS) {
  ifPresent(`${config.name}: the events of random programs are QEMU’s`, async t => {
    if ('missing' in qemu) throw new Error(qemu.missing);
    const folder = mkdtempSync(join(tmpdir(), 'trace-qemu-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    const [theirs, ours, started] = ['theirs', 'ours', 'qemu'].map(name => join(folder, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(started, `#!/bin/sh\nexec '${qemu.program}' "$@" -trace 'vtd_*,file=${theirs}'\n`);
    chmodSync(started, 0o700);
    const facts = await askQemu(qemu.program);
    let agreed = 0;
    for (const seed of [1, 2, 3]) {
      const lines = compile(generate(config, seed)).map(inOnePiece);
      const peer = await QemuPeer.start(config, { program: started, facts, testdev: false });
      try {
        await peer.reset();
        await peer.run(lines);
      } finally {
        await peer[Symbol.asyncDispose]();
      }
      const input = lines.map(
        ({ text, untilIdle }) => `${untilIdle === true ? `clock_step ${TRANSFER_NS}\n` : ''}${text}\n`,
      );
      const args = [
        ...machineArguments(config, { more: ['compat=qemu-10.2'] }),
        '-qtest',
        'stdio',
        '-qtest-log',
        'none',
      ];
      const traced = [PROGRAM, ...args, '-trace', `vtd_*,file=${ours}`];
      t.is(runSync(process.execPath, traced, input.join('')).stderr, '');
      const result = compareEvents(eventsIn(theirs), eventsIn(ours));
      t.deepEqual(result.differ, undefined, `seed ${seed}, after ${result.agreed} events`);
      agreed += result.agreed;
    }
    t.true(agreed > 500, String(agreed));
    t.log(`${agreed} events agree`);
  });
}
