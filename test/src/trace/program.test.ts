/** `remora-system-x86_64 -trace`: which lines appear, where, and when none do. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { PROGRAM } from '../qtest/program-under-test.js';
import { transcripts } from '../qtest/transcripts.js';
import { runSync } from '../rig/processes.js';

const MACHINE = ['-M', 'q35', '-nodefaults', '-device', 'intel-iommu', '-qtest', 'stdio', '-qtest-log', 'none'];

function run(args: readonly string[], commands: readonly string[] = []): { stdout: string; stderr: string } {
  const input = commands.map(command => `${command}\n`).join('');
  const { status, stdout, stderr } = runSync(process.execPath, [PROGRAM, ...MACHINE, ...args], input);
  if (status !== 0) throw new Error(`status ${status}: ${stderr}`);
  return { stdout, stderr };
}

/** A queue of two descriptors: a domain's translations, then a wait that writes 1 to 0x5000. */
const COMMANDS = [
  ...['readl 0xfed90000', 'readq 0xfed90008', 'writeq 0xfed90090 0x4000', 'writel 0xfed90018 0x4000000'],
  ...['writeq 0x4000 0x10022', 'writeq 0x4008 0', 'writeq 0x4010 0x100000025', 'writeq 0x4018 0x5000'],
  ...['writeq 0xfed90088 0x20', 'readl 0x5000', 'writeq 0xfed90088 0x1000'],
];

const GOLDEN = `vtd_reg_read addr=0x0 size=0x4
vtd_reg_read addr=0x8 size=0x8
vtd_reg_write addr=0x90 size=0x8 value=0x4000
vtd_reg_write addr=0x18 size=0x4 value=0x4000000
vtd_reg_write_gcmd status=0x0 value=0x4000000
vtd_inv_qi_enable on=1
vtd_inv_qi_setup addr=0x4000 entries=0x100
vtd_reg_write addr=0x88 size=0x8 value=0x20
vtd_inv_qi_tail tail=0x2
vtd_inv_qi_fetch
vtd_inv_qi_head head=0x0
vtd_inv_desc type=iotlb hi=0x0 lo=0x10022
vtd_inv_desc_iotlb_domain did=0x1
vtd_inv_qi_head head=0x1
vtd_inv_desc type=wait hi=0x5000 lo=0x100000025
vtd_inv_desc_wait_sw addr=0x5000 data=0x1
vtd_reg_write addr=0x88 size=0x8 value=0x1000
vtd_inv_qi_tail tail=0x100
vtd_inv_qi_fetch
`;

test('registers and the queue, in order, after the reset', t => {
  const { stdout, stderr } = run(['-trace', 'vtd_*'], COMMANDS);
  t.is(stderr, `vtd_reset_exit\nvtd_context_cache_reset\n${GOLDEN}`);
  t.is(stdout.split('\n')[9], 'OK 0x0000000000000001');
});

test('nothing is printed that was not asked for', t => {
  t.is(run([], COMMANDS).stderr, '');
  t.is(run(['-trace', 'vfio_*', '-trace', 'nothing_*', '-trace', ''], COMMANDS).stderr, '');
  t.is(run(['-trace', 'vtd_*', '-d', 'trace:-vtd_*'], COMMANDS).stderr, '');
  t.is(
    run(['-trace', 'vtd_*', '-trace', '-vtd_reg*', '-trace', 'enable=-vtd_inv_*'], COMMANDS).stderr,
    'vtd_reset_exit\nvtd_context_cache_reset\n',
  );
});

test('without -trace a whole transcript prints nothing', t => {
  const { exchanges } = transcripts.find(({ name }) => name === 'intel-iommu-test.1')!;
  t.is(
    run(
      [],
      exchanges.map(({ command }) => command),
    ).stderr,
    '',
  );
});

test('a file takes the lines', t => {
  const folder = mkdtempSync(join(tmpdir(), 'trace-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'log');
  t.is(run(['-trace', `vtd_inv_desc_wait_sw,file=${file}`], COMMANDS).stderr, '');
  t.is(readFileSync(file, 'utf8'), 'vtd_inv_desc_wait_sw addr=0x5000 data=0x1\n');
  t.is(run(['-D', file, '-d', 'trace:vtd_inv_desc_iotlb_*'], COMMANDS).stderr, '');
  t.is(readFileSync(file, 'utf8'), 'vtd_inv_desc_iotlb_domain did=0x1\n');
});

test('with timestamps: process, seconds and microseconds', t => {
  const before = Date.now() / 1000 - 1;
  const { stderr } = run(['-trace', 'vtd_inv_desc_wait_sw', '-msg', 'timestamp=on'], COMMANDS);
  const [, time] = /^\d+@(\d+\.\d{6}):vtd_inv_desc_wait_sw addr=0x5000 data=0x1\n$/.exec(stderr) ?? [];
  t.true(Number(time) > before && Number(time) < Date.now() / 1000 + 1, stderr);
});

test('an event that there is not is warned of, and the others are printed', t => {
  const { stderr } = run(['-trace', 'vtd_bogus', '-trace', 'vtd_inv_desc_iotlb_domain'], COMMANDS);
  t.is(
    stderr,
    "remora-system-x86_64: warning: -trace vtd_bogus: there is no trace event 'vtd_bogus'\nvtd_inv_desc_iotlb_domain did=0x1\n",
  );
});
