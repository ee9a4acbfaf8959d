import { bigOf } from '@remora/bits';
import { ConfigError } from '@remora/core';
import test, { type ExecutionContext } from 'ava';
import { capabilityRegister, extendedCapabilityRegister, vtdConfig, vtdProperties } from './index.js';

type Options = Readonly<Record<string, unknown>>;
const value = (words: Int32Array): bigint => bigOf(words[1]!, words[0]!);
const cap = (options: Options): bigint => value(capabilityRegister(vtdConfig(options)));
const ecap = (options: Options): bigint => value(extendedCapabilityRegister(vtdConfig(options)));
const ON = { 'x-scalable-mode': 'on' };
const FLTS = { ...ON, 'x-flts': true };

/** vtd.md 2.3. */
const CAPS: readonly (readonly [Options, bigint])[] = [
  [{ 'aw-bits': 39 }, 0x80d2008c22260206n],
  [{ 'aw-bits': 39, 'caching-mode': true }, 0x80d2008c22260286n],
  [{}, 0x80d2008c222f0606n],
  [{ 'caching-mode': 'on' }, 0x80d2008c222f0686n],
  [{ ...ON, 'aw-bits': 39 }, 0x80d2008c22260206n],
  [ON, 0x80d2008c222f0606n],
  [FLTS, 0x81d2008c222f0606n],
  [{ ...FLTS, 'caching-mode': true }, 0x81d2008c222f0686n],
  [{ ...FLTS, fs1gp: false }, 0x80d2008c222f0606n],
  [{ 'aw-bits': 57 }, 0x80d2008c22380e06n],
  [{ 'dma-drain': false }, 0x8012008c222f0606n],
  // decisions.md
  [{ nesting: true }, 0x81d2008c222f0606n],
  // 5-level first stage, several fault records
  [{ ...FLTS, 'aw-bits': 57 }, 0x91d2008c22380e06n],
  [{ 'fault-records': 8 }, 0x80d2078c222f0606n],
  [{ intremap: true, 'x-pi': true }, 0x88d2008c222f0606n],
];

for (const [options, expected] of CAPS) {
  test(`CAP of ${JSON.stringify(options)}`, t => {
    t.is(cap(options), expected);
  });
}

/** vtd.md 2.3, vsva.md 4.1, decisions.md. */
const ECAPS: readonly (readonly [Options, bigint])[] = [
  [{}, 0xf42n],
  [{ intremap: true }, 0xf00f4an],
  [{ intremap: true, eim: true }, 0xf00f5an],
  [ON, 0x480080000f42n],
  [{ ...ON, intremap: true }, 0x480080f00f4an],
  [{ ...ON, intremap: true, eim: true }, 0x480080f00f5an],
  [FLTS, 0x880000000f42n],
  [{ ...FLTS, intremap: true, eim: true }, 0x880000f00f5an],
  [{ 'device-iotlb': true }, 0xf46n],
  [{ 'snoop-control': true }, 0xfc2n],
  [{ pt: false }, 0xf02n],
  [{ ...ON, 'x-pasid-mode': true }, 0x493880000f42n],
  [{ 'x-scalable-mode': 'legacy', pt: false }, 0x480080000f02n],
  [{ 'x-scalable-mode': 'legacy' }, 0x480080000f42n],
  [{ 'x-scalable-mode': 'modern', pt: false }, 0x999880000f02n],
  [{ 'x-scalable-mode': 'modern' }, 0x999880000f42n],
  [{ nesting: true }, 0xc99884000f42n],
  // QEMU 11's svm
  [{ ...FLTS, 'device-iotlb': true, 'pasid-bits': 20, svm: true }, 0x8d9a20000f46n],
  [{ 'scalable-mode': 'on', flts: 'on' }, 0x880000000f42n],
  [{ scalableMode: 'on', fsts: 'on' }, 0x880000000f42n],
];

for (const [options, expected] of ECAPS) {
  test(`ECAP of ${JSON.stringify(options)}`, t => {
    t.is(ecap(options), expected);
  });
}

function refused(t: ExecutionContext, options: Options, path: string, problem: RegExp): void {
  const error = t.throws(() => vtdConfig(options, 'vtd0'), { instanceOf: ConfigError });
  t.is(error?.path, `vtd0.${path}`);
  t.regex(error?.message ?? '', problem);
}

test('values out of range name the value and what was expected', t => {
  refused(t, { 'aw-bits': 47 }, 'aw-bits', /"47" is not one of 39, 48, 57/);
  refused(t, { 'x-scalable-mode': 'Modern' }, 'x-scalable-mode', /"Modern" is not one of off, on, legacy, modern/);
  refused(t, { 'vcmd-layout': '3.1' }, 'vcmd-layout', /"3.1" is not one of 3.3, 3.0/);
  refused(t, { 'fault-records': 129 }, 'fault-records', /129/);
  refused(t, { 'iotlb-entries': 0 }, 'iotlb-entries', /0/);
  refused(t, { 'cachng-mode': 'on' }, 'cachng-mode', /did you mean "caching-mode"/);
});

test('values that do not go together', t => {
  refused(t, { 'x-flts': true }, 'x-flts', /needs scalable mode/);
  refused(t, { ...FLTS, 'aw-bits': 39 }, 'aw-bits', /39 is not offered with x-flts=on/);
  refused(t, { eim: true }, 'eim', /set intremap=on/);
  refused(t, { 'x-pi': true }, 'x-pi', /set intremap=on/);
  refused(t, { ...ON, 'dma-drain': false }, 'dma-drain', /leave dma-drain=on/);
  refused(t, { 'x-pasid-mode': true }, 'x-pasid-mode', /needs scalable mode/);
  refused(t, { svm: true }, 'svm', /needs device TLBs: set device-iotlb=on/);
  refused(t, { 'x-ssads': true }, 'x-ssads', /needs scalable mode/);
});

test('compat=qemu-10.2 refuses what QEMU 10.2 lacks', t => {
  const compat = { compat: 'qemu-10.2' };
  refused(t, { ...compat, 'aw-bits': 57 }, 'aw-bits', /57 is not one of 39, 48/);
  refused(t, { ...compat, nesting: true }, 'nesting', /does not nest/);
  refused(t, { ...compat, 'x-scalable-mode': 'modern' }, 'x-scalable-mode', /"modern" is not one of off, on, legacy/);
  refused(t, { ...compat, 'fault-records': 2 }, 'fault-records', /has one/);
  refused(t, { ...compat, intremap: true, 'x-pi': true }, 'x-pi', /does not offer it/);
  refused(t, { ...compat, ...ON, 'x-pasid-mode': true, 'device-iotlb': true }, 'x-pasid-mode', /with device-iotlb=on/);
  refused(t, { ...compat, ...ON, 'x-smpwcs': true }, 'x-smpwcs', /does not offer it/);
  t.is(vtdConfig({ ...compat, ...FLTS })['x-flts'], true);
});

test('behaviour 66: x-scalable-mode=off is accepted; Q8 refuses it and lifts the dma-drain rule', t => {
  t.is(vtdConfig({ 'x-scalable-mode': 'off' })['x-scalable-mode'], 'off');
  const q8 = { 'quirk-off-refused': true };
  refused(t, { ...q8, 'x-scalable-mode': 'off' }, 'x-scalable-mode', /"off" is not one of modern, legacy/);
  refused(t, { ...q8, scalableMode: 'on' }, 'x-scalable-mode', /"on" is not one of modern, legacy/);
  t.is(vtdConfig(q8)['x-scalable-mode'], 'off');
  t.is(vtdConfig({ ...q8, 'x-scalable-mode': 'modern', 'dma-drain': false })['dma-drain'], false);
});

test('every quirk is off by default and says which one, or which behaviour, it is', t => {
  const quirks = vtdProperties.help().filter(({ name }) => name.startsWith('quirk-'));
  t.true(quirks.length >= 21);
  for (const { name, fallback, doc } of quirks) {
    t.is(fallback, false, name);
    t.regex(doc, /^Q(\d+|-[A-Z0-9]+): |behaviour \d+/, name);
  }
});
