/**
 * The importer catches what is wrong: in a declaration, in a header, in the fixtures. Tests marked `compiled` run where a C compiler
 * is, those marked `withHeaders` where the kernel's headers are too; the others run everywhere.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { nested, struct, StructType, u32, u64, VfioInfoCapHeader, VfioIommuType1DmaMap } from '@remora/uapi';
import test, { type ExecutionContext } from 'ava';
import { compareDeclarations, type Declarations } from './compare.js';
import { type Facts, parseFacts } from './facts.js';
import { importHeaders, runHeaders, uapiDeclarations } from './index.js';

const SOURCES = fileURLToPath(new URL('../../../packages/uapi/fixtures/', import.meta.url));
const kept = JSON.parse(readFileSync(join(SOURCES, 'fixtures.json'), 'utf8')) as Facts;
const here = importHeaders();
const compiled = here.skipped === undefined ? test : test.skip;
const withHeaders = here.kernelHeaders !== undefined ? test : test.skip;

/** All declarations, with one structure replaced by another of the same name. */
function declaringInstead(wrong: StructType): Declarations {
  const right = uapiDeclarations();
  return { ...right, structs: right.structs.map(type => (type.name === wrong.name ? wrong : type)) };
}

function wide(type: object): StructType {
  if (!(type instanceof StructType)) throw new TypeError('not a structure');
  return type;
}

const swapped = wide(
  struct('vfio_iommu_type1_dma_map', 'linux/vfio.h', 32, {
    argsz: u32(0),
    flags: u32(4),
    iova: u64(8),
    vaddr: u64(16),
    size: u64(24),
  }),
);
const SWAP = [
  { where: 'vfio_iommu_type1_dma_map.iova', declared: '8 bytes at 8', actual: '8 bytes at 16' },
  { where: 'vfio_iommu_type1_dma_map.vaddr', declared: '8 bytes at 16', actual: '8 bytes at 8' },
];

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'remora-headers-test-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A copy of the C sources in which `from` is replaced by `to`. */
function sourcesWith(t: ExecutionContext, file: string, from: string, to: string): string {
  const copy = folder(t);
  cpSync(SOURCES, copy, { recursive: true });
  const text = readFileSync(join(copy, file), 'utf8');
  t.true(text.includes(from), `${file} has "${from}"`);
  writeFileSync(join(copy, file), text.replace(from, to));
  return copy;
}

function command(args: readonly string[], defaults = {}): { code: number; out: string; err: string } {
  let out = '';
  let err = '';
  const code = runHeaders(
    args,
    { stdout: { write: (text: string) => (out += text) }, stderr: { write: (text: string) => (err += text) } },
    defaults,
  );
  return { code, out, err };
}

test('the declarations agree with the fixtures', t => {
  t.deepEqual(compareDeclarations(uapiDeclarations(), kept), []);
});

test('a wrong offset in a declaration is caught', t => {
  t.deepEqual(compareDeclarations(declaringInstead(swapped), kept), SWAP);
});

test('a wrong size, a wrong width, a missing and an invented field are caught', t => {
  const wrong = wide(
    struct('vfio_iommu_type1_info_dma_avail', 'linux/vfio.h', 16, {
      header: nested(0, VfioInfoCapHeader),
      avail: u64(8),
    }),
  );
  t.deepEqual(compareDeclarations(declaringInstead(wrong), kept), [
    { where: 'vfio_iommu_type1_info_dma_avail', declared: '16 bytes', actual: '12 bytes' },
    { where: 'vfio_iommu_type1_info_dma_avail.avail', declared: '8 bytes at 8', actual: '4 bytes at 8' },
  ]);
  const other = wide(struct('vfio_group_status', 'linux/vfio.h', 8, { argsz: u32(0), state: u32(4) }));
  t.deepEqual(compareDeclarations(declaringInstead(other), kept), [
    { where: 'vfio_group_status.state', declared: '4 bytes at 4', actual: 'nothing' },
    { where: 'vfio_group_status.flags', declared: 'nothing', actual: '4 bytes at 4' },
  ]);
});

test('a structure that one side lacks is caught', t => {
  const all = uapiDeclarations();
  const fewer = { ...all, structs: all.structs.filter(type => type.name !== 'vfio_irq_info') };
  t.deepEqual(compareDeclarations(fewer, kept), [{ where: 'vfio_irq_info', declared: 'nothing', actual: '16 bytes' }]);
  const more = { ...all, structs: [...all.structs, wide(struct('vfio_dream', 'linux/vfio.h', 4, { a: u32(0) }))] };
  t.deepEqual(compareDeclarations(more, kept), [
    { where: 'vfio_dream', declared: '4 bytes', actual: 'not known to the probe' },
  ]);
});

test('a wrong constant is caught on either side', t => {
  const all = uapiDeclarations();
  const wrong = { ...all, constants: { ...all.constants, rfc: { ...all.constants.rfc, VFIO_IOMMU_BIND: 0x3b7d } } };
  t.deepEqual(compareDeclarations(wrong, kept), [{ where: 'VFIO_IOMMU_BIND', declared: '0x3b7d', actual: '0x3b7b' }]);
  const fewer = Object.fromEntries(Object.entries(all.constants.linux).filter(([name]) => name !== 'VFIO_EEH'));
  t.deepEqual(compareDeclarations({ ...all, constants: { ...all.constants, linux: fewer } }, kept), [
    { where: 'VFIO_EEH', declared: 'nothing', actual: '0x5' },
  ]);
});

test('without headers, upstream declarations are left alone and the RFC is still compared', t => {
  const structs = Object.fromEntries(Object.entries(kept.structs).filter(([, { origin }]) => origin !== 'linux'));
  const facts = { ...kept, kernelHeaders: undefined, structs, constants: { ...kept.constants, linux: {} } };
  t.deepEqual(compareDeclarations(declaringInstead(swapped), facts), []);
  const wrong = wide(struct('iommu_inv_pasid_info', 'RFC', 16, { flags: u32(0), archid: u32(12), pasid: u64(4) }));
  t.is(compareDeclarations(declaringInstead(wrong), facts).length, 2);
});

test('a later size that argsz keeps compatible is accepted, another is not', t => {
  const grown = (size: number): Facts => ({
    ...kept,
    structs: { ...kept.structs, vfio_device_info: { ...kept.structs['vfio_device_info']!, size } },
  });
  t.deepEqual(compareDeclarations(uapiDeclarations(), grown(24)), []);
  t.is(compareDeclarations(uapiDeclarations(), grown(28)).length, 1);
});

compiled('iommufd is compared whatever headers are here, and a wrong member of ours is caught', t => {
  const sources = sourcesWith(t, 'iommufd.h', 'uint64_t user_va;', 'uint32_t user_va;');
  const where = importHeaders({ sources, withoutLinux: true }).differences.map(difference => difference.where);
  t.deepEqual(where, ['iommu_ioas_map.user_va']);
});

compiled('what this machine compiles agrees with the declarations and with the fixtures', t => {
  t.deepEqual(here.differences, []);
  t.is(here.fixtures, 'equal');
  t.deepEqual(here.compared.rfc, { structs: 15, fields: 95, constants: 59 });
  t.deepEqual(here.compared.iommufd, { structs: 43, fields: 191, constants: 85 });
});

withHeaders("the kernel's own header was compared", t => {
  t.deepEqual(here.compared.linux, { structs: 19, fields: 70, constants: 97 });
});

withHeaders('a wrong offset is caught by compiling, too', t => {
  t.deepEqual(importHeaders({ declarations: declaringInstead(swapped) }).differences, SWAP);
});

withHeaders('a header that lays a structure out differently is caught', t => {
  const include = folder(t);
  mkdirSync(join(include, 'linux'));
  writeFileSync(
    join(include, 'linux', 'vfio.h'),
    `#define vfio_iommu_type1_dma_map original_map
#define vfio_group_status original_status
#include_next <linux/vfio.h>
#undef vfio_iommu_type1_dma_map
#undef vfio_group_status
struct vfio_iommu_type1_dma_map { __u32 argsz; __u32 flags; __u64 iova; __u64 vaddr; __u64 size; };
struct vfio_group_status { __u32 argsz; __u32 flags; __u32 more; };
`,
  );
  const { differences, fixtures } = importHeaders({ includes: [include] });
  t.deepEqual(differences, [
    { where: 'vfio_group_status', declared: '8 bytes', actual: '12 bytes' },
    ...['vaddr', 'iova'].map(field => {
      const { offset } = VfioIommuType1DmaMap.specs[field as 'vaddr' | 'iova'];
      return {
        where: `vfio_iommu_type1_dma_map.${field}`,
        declared: `8 bytes at ${offset}`,
        actual: `8 bytes at ${24 - offset}`,
      };
    }),
    { where: 'vfio_group_status.more', declared: 'nothing', actual: 'a member' },
  ]);
  t.is(fixtures, 'different');
});

compiled('a rendering of the RFC that differs is caught, with or without the kernel headers', t => {
  const sources = sourcesWith(
    t,
    'rfc.h',
    'uint64_t hpasid;\n\tuint64_t gpasid;',
    'uint64_t gpasid;\n\tuint64_t hpasid;',
  );
  const { differences, fixtures, compared } = importHeaders({ sources, withoutLinux: true });
  t.deepEqual(differences, [
    { where: 'iommu_gpasid_bind_data.hpasid', declared: '8 bytes at 24', actual: '8 bytes at 32' },
    { where: 'iommu_gpasid_bind_data.gpasid', declared: '8 bytes at 32', actual: '8 bytes at 24' },
  ]);
  t.is(fixtures, 'different');
  t.is(compared.linux, undefined);
});

compiled('a member that the probe does not ask about is caught', t => {
  const sources = sourcesWith(t, 'rfc.h', 'uint8_t padding[12];', 'uint8_t padding[4];\n\tuint64_t surprise;');
  t.deepEqual(importHeaders({ sources, withoutLinux: true }).differences, [
    { where: 'iommu_gpasid_bind_data.surprise', declared: 'nothing', actual: 'a member' },
  ]);
});

compiled('a header that lacks what the probe names is a difference, not a crash', t => {
  const sources = sourcesWith(t, 'rfc.h', '#define IOMMU_SVA_GPASID_VAL 0x1', '');
  const { differences } = importHeaders({ sources });
  t.is(differences.length, 1);
  t.regex(differences[0]!.actual, /^the probe does not compile: probe\.c:.*IOMMU_SVA_GPASID_VAL/);
});

compiled('fixtures that were edited are caught, and written anew on request', t => {
  const sources = sourcesWith(t, 'fixtures.json', '"1112131421222324', '"1112131421222325');
  t.is(importHeaders({ sources, withoutLinux: true }).fixtures, 'different');
  t.is(command(['--without-linux'], { sources }).code, 1);
  if (here.kernelHeaders === undefined) {
    t.is(command(['--write-fixtures'], { sources }).code, 2);
    return;
  }
  t.is(command(['--write-fixtures'], { sources }).code, 0);
  t.deepEqual(importHeaders({ sources }).fixtures, 'equal');
  t.is(command([], { sources }).code, 0);
});

compiled('fixtures are not written by halves', t => {
  const sources = sourcesWith(t, 'fixtures.json', '"1112131421222324', '"1112131421222325');
  const before = readFileSync(join(sources, 'fixtures.json'), 'utf8');
  const { code, err } = command(['--write-fixtures', '--without-linux'], { sources });
  t.is(code, 2);
  t.regex(err, /were not written/);
  t.is(readFileSync(join(sources, 'fixtures.json'), 'utf8'), before);
});

test('without a compiler the command says so and succeeds', t => {
  const { code, out } = command(['--compiler', 'no-such-compiler']);
  t.is(code, 0);
  t.is(out, 'skipped: no C compiler: "no-such-compiler" does not start (set CC)\n');
  const json = command(['--compiler', 'no-such-compiler', '--json']);
  t.regex((JSON.parse(json.out) as { skipped: string }).skipped, /no C compiler/);
  t.is(command(['--compiler', 'no-such-compiler', '--write-fixtures']).code, 2);
});

test('without the C sources the command says so', t => {
  t.is(
    command([], { sources: join(SOURCES, 'nowhere') }).out,
    'skipped: the C sources of the probe are only in the repository\n',
  );
});

compiled('differences make the command fail, in text and in JSON', t => {
  const wrong = wide(struct('iommu_inv_pasid_info', 'RFC', 16, { flags: u32(4), archid: u32(0), pasid: u64(8) }));
  const declarations = declaringInstead(wrong);
  const text = command(['--without-linux'], { declarations });
  t.is(text.code, 1);
  t.regex(text.out, /^DIFFERENT iommu_inv_pasid_info\.flags: declared 4 bytes at 4, C says 4 bytes at 0$/m);
  t.regex(text.out, /^linux\/vfio\.h: skipped/m);
  const json = command(['--without-linux', '--json'], { declarations });
  t.is(json.code, 1);
  t.is((JSON.parse(json.out) as { differences: unknown[] }).differences.length, 2);
});

test('bad arguments get one line and exit code 2', t => {
  const { code, out, err } = command(['--nonsense']);
  t.is(code, 2);
  t.is(out, '');
  t.regex(err, /^headers: Unknown option '--nonsense'.*usage: .*\n$/);
});

test('output that is not of the grammar, or of another ABI, is refused', t => {
  t.throws(() => parseFacts('field a 0 4\n'), { message: /makes no sense: field a 0 4/ });
  t.throws(() => parseFacts('struct rfc a x 4\n'), { message: /makes no sense/ });
  t.throws(() => parseFacts('struct mars a 4 4\n'), { message: /makes no sense/ });
  t.throws(() => parseFacts('hello\n'), { message: /makes no sense/ });
  t.throws(() => parseFacts('abi 4 4 little\n'), { name: 'ForeignAbi' });
});

compiled('a compiler without a C library is no difference', t => {
  const sources = folder(t);
  writeFileSync(join(sources, 'probe.c'), '#error fatal error: stdio.h: No such file\n');
  t.regex(importHeaders({ sources }).skipped ?? '', /no C library/);
});
