import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'ava';
import { cacheFolder } from './cache-folder.js';
import { LiveError } from './live-error.js';
import { findPeers, type PeerOptions } from './peers.js';
import { headersPackages, imagePatterns } from './series.js';

const NO_MIRROR = 'file:///nowhere';

/** A cache folder with these (empty) files. */
function cacheWith(...files: readonly string[]): { path: string } & Disposable {
  const folder = mkdtempSync(join(tmpdir(), 'remora-cache-'));
  for (const file of files) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), '');
  }
  return { path: folder, [Symbol.dispose]: () => rmSync(folder, { recursive: true }) };
}

function options(cache: { path: string }, more: Partial<PeerOptions> = {}): PeerOptions {
  return { folder: cache.path, kernel: '6.1', flavour: 'cloud', mirror: NO_MIRROR, ...more };
}

const QEMU = 'qemu_11.1.3+ds-1/usr';
const TOOLS = [
  `${QEMU}/bin/qemu-system-x86_64`,
  `${QEMU}/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2`,
  `${QEMU}/share/qemu/bios-256k.bin`,
  `${QEMU}/share/seabios/bios.bin`,
  'busybox_1.37.0-6/usr/bin/busybox',
];
const LINUX_6_1 = [
  'linux-image-6.1.0-9-cloud-amd64_6.1.170-1/boot/vmlinuz-6.1.0-9-cloud-amd64',
  'linux-image-6.1.0-9-cloud-amd64_6.1.170-1/lib/modules/6.1.0-9-cloud-amd64/modules.dep',
  'linux-image-6.1.0-50-cloud-amd64_6.1.176-1/boot/vmlinuz-6.1.0-50-cloud-amd64',
  'linux-image-6.1.0-50-cloud-amd64_6.1.176-1/lib/modules/6.1.0-50-cloud-amd64/modules.dep',
];
const LINUX_7_2 = [
  'linux-binary-7.2.9+deb13-cloud-amd64_7.2.9-1~bpo13+1/usr/lib/modules/7.2.9+deb13-cloud-amd64/vmlinuz',
  'linux-binary-7.2.12+deb13-cloud-amd64_7.2.12-1~bpo13+1/usr/lib/modules/7.2.12+deb13-cloud-amd64/vmlinuz',
];

test('what is in the cache is used without a network: the newest of each', async t => {
  using cache = cacheWith(...TOOLS, ...LINUX_6_1, ...LINUX_7_2);
  const fetched: string[] = [];
  const old = await findPeers(options(cache), what => fetched.push(what));
  t.is(old.kernel.version, '6.1.0-50-cloud-amd64 (6.1.176-1)');
  t.true(old.kernel.image.endsWith('/boot/vmlinuz-6.1.0-50-cloud-amd64'));
  t.true(old.kernel.modules!.endsWith('/lib/modules/6.1.0-50-cloud-amd64'));
  t.is(old.qemuVersion, '11.1.3+ds-1');
  t.true(old.busybox.endsWith('/busybox_1.37.0-6/usr/bin/busybox'));
  t.true(old.qemu.some(word => word.endsWith('/qemu_11.1.3+ds-1/usr/bin/qemu-system-x86_64')));
  for (const kernel of ['7.2', '7']) {
    const recent = await findPeers(options(cache, { kernel }), what => fetched.push(what));
    t.is(recent.kernel.version, '7.2.12+deb13-cloud-amd64 (7.2.12-1~bpo13+1)');
  }
  t.deepEqual(fetched, []);
});

test('with headers the newest kernel is used that has its own: those of its release and version', async t => {
  const [old, recent] = ['6.1.0-9', '6.1.0-50'].map(release => `linux-headers-${release}-cloud-amd64`);
  const found = async (...headers: string[]): Promise<string | undefined> => {
    using cache = cacheWith(
      ...TOOLS,
      ...LINUX_6_1,
      ...headers.map(each => `${each}/usr/src/${each.split('_')[0]}/.config`),
    );
    const { kernel } = await findPeers(options(cache, { headers: true }), () => undefined);
    return kernel.headers!.slice(cache.path.length + 1);
  };
  const of = (name: string | undefined, version: string): string => `${name}_${version}`;
  t.is(await found(of(old, '6.1.170-1')), `${of(old, '6.1.170-1')}/usr/src/${old}`);
  t.is(await found(of(old, '6.1.170-1'), of(recent, '6.1.176-1')), `${of(recent, '6.1.176-1')}/usr/src/${recent}`);
  for (const none of [[], [of(recent, '6.1.175-1')]])
    await t.throwsAsync(found(...none), { instanceOf: LiveError, message: /^(apt-|dpkg-|Debian's keys)/ });
});

test('packages of headers', t => {
  t.deepEqual(headersPackages('linux-image-6.1.0-50-cloud-amd64'), [
    'linux-headers-6.1.0-50-cloud-amd64',
    'linux-headers-6.1.0-50-common',
  ]);
  t.deepEqual(headersPackages('linux-binary-7.2.12+deb13-amd64'), [
    'linux-headers-7.2.12+deb13-amd64',
    'linux-headers-7.2.12+deb13-common',
  ]);
});

test('a kernel that is named by its path is used as it is', async t => {
  using cache = cacheWith(...TOOLS, 'mine/bzImage');
  const image = join(cache.path, 'mine/bzImage');
  const { kernel } = await findPeers(options(cache, { kernel: image }), () => undefined);
  t.deepEqual(kernel, { image, version: image, modules: undefined, headers: undefined });
  await t.throwsAsync(
    findPeers(options(cache, { kernel: '/nowhere/bzImage' }), () => undefined),
    { instanceOf: LiveError, message: '--kernel: /nowhere/bzImage is neither a series, as 6.1, nor a file' },
  );
});

test('what is missing and cannot be fetched is said, and nothing half done is left', async t => {
  using cache = cacheWith(...TOOLS, ...LINUX_6_1);
  for (const more of [{ kernel: '7.2' }, { flavour: 'generic' }, { update: true }] as const)
    await t.throwsAsync(
      findPeers(options(cache, more), () => undefined),
      { instanceOf: LiveError, message: /^(apt-|dpkg-|Debian's keys)/ },
    );
  t.deepEqual(
    readdirSync(cache.path).filter(name => !/^(apt$|qemu_|busybox_|linux-)/.test(name)),
    [],
  );
});

test('a damaged cache says what to remove', async t => {
  const kernel = 'linux-image-6.1.0-50-cloud-amd64_6.1.176-1';
  for (const [files, damaged] of [
    [[...TOOLS, `${kernel}/boot/config`], kernel],
    [[...TOOLS.slice(1), ...LINUX_6_1], 'qemu_11.1.3+ds-1'],
  ] as const) {
    using cache = cacheWith(...files);
    const failure = await t.throwsAsync(
      findPeers(options(cache), () => undefined),
      { instanceOf: LiveError },
    );
    t.true(failure.message.startsWith(`${join(cache.path, damaged)} has no `), failure.message);
    t.true(failure.message.endsWith(': remove the folder, it is fetched again'), failure.message);
  }
});

test('what cannot be the cache folder is named', async t => {
  using cache = cacheWith('file');
  for (const folder of [join(cache.path, 'file'), join(cache.path, 'file/below'), '/proc/nowhere/below'])
    await t.throwsAsync(
      findPeers({ ...options(cache), folder }, () => undefined),
      { instanceOf: LiveError, message: new RegExp(`^the cache folder: ${folder} cannot be used as a folder: E`) },
    );
});

test('packages of kernels by series and flavour', t => {
  const names = [
    ...['linux-image-6.1.0-50-cloud-amd64', 'linux-image-6.1.0-50-amd64', 'linux-image-6.12.107+deb13-cloud-amd64'],
    ...['linux-binary-7.2.12+deb13-cloud-amd64', 'linux-image-7.2.12+deb13-cloud-amd64', 'linux-image-cloud-amd64'],
    ...['linux-binary-7.2.12+deb13-amd64', 'linux-binary-7.3.4+deb13-cloud-amd64', 'linux-image-7.2.12+deb13-rt-amd64'],
  ];
  const first = (series: string, flavour: 'cloud' | 'generic'): string[] =>
    imagePatterns(series, flavour).flatMap(pattern => names.filter(name => pattern.test(name)));
  t.deepEqual(first('6.1', 'cloud'), ['linux-image-6.1.0-50-cloud-amd64']);
  t.deepEqual(first('6.1', 'generic'), ['linux-image-6.1.0-50-amd64']);
  t.is(first('7.2', 'cloud')[0], 'linux-binary-7.2.12+deb13-cloud-amd64');
  t.is(first('7.2', 'generic')[0], 'linux-binary-7.2.12+deb13-amd64');
  t.deepEqual(first('7', 'cloud').slice(0, 2), [
    'linux-binary-7.2.12+deb13-cloud-amd64',
    'linux-binary-7.3.4+deb13-cloud-amd64',
  ]);
});

test('the cache folder: the own variable, then the XDG one', t => {
  t.is(cacheFolder({ REMORA_CACHE: '/a', XDG_CACHE_HOME: '/b' }), '/a');
  t.is(cacheFolder({ REMORA_CACHE: '', XDG_CACHE_HOME: '/b' }), join('/b', 'remora'));
  t.true(cacheFolder({}).endsWith(join('.cache', 'remora')));
});
