/** The programs of a live machine besides Remora: found in the cache folder, else fetched into it. */
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { folderWithUs } from '../../leftovers/index.js';
import { Apt, type Archive, byNumbers, unpack } from './apt.js';
import { LiveError } from './live-error.js';
import { makeFolder } from './make-folder.js';
import { BUSYBOX, type Flavour, imagePatterns, isSeries, modulesPackage, QEMU, QEMU_SUITE, SUITES } from './series.js';

export interface PeerOptions {
  /** The cache folder. */
  readonly folder: string;
  /** A series, as `6.1`, or the path of a kernel image. */
  readonly kernel: string;
  readonly flavour: Flavour;
  /** Fetch the newest, whatever is there. */
  readonly update?: boolean | undefined;
  /** Of Debian's packages; default: that of this machine. */
  readonly mirror?: string | undefined;
}

export interface Kernel {
  readonly image: string;
  /** What it calls itself: `6.1.0-50-cloud-amd64 (6.1.176-1)`; the path for one that was named by it. */
  readonly version: string;
  /** Folder of its modules; undefined for one that was named by its path. */
  readonly modules: string | undefined;
}

export interface Peers {
  /** Program and first arguments: through its own loader, with its own libraries. */
  readonly qemu: readonly string[];
  readonly qemuVersion: string;
  readonly busybox: string;
  readonly kernel: Kernel;
}

/** Told what is fetched, and how much of it is there. */
export type FetchReport = (what: string, percent: number) => void;

const LIBRARIES = 'usr/lib/x86_64-linux-gnu';
const LOADER = `${LIBRARIES}/ld-linux-x86-64.so.2`;
const QEMU_FOLDER = [/^qemu$/];
const BUSYBOX_FOLDER = [/^busybox$/];
const DATA = ['usr/share/qemu', 'usr/share/seabios'];

/** What is missing is fetched. @throws LiveError if that cannot be. */
export async function findPeers(options: PeerOptions, report: FetchReport): Promise<Peers> {
  const { folder, kernel } = options;
  if (!isSeries(kernel) && !existsSync(kernel))
    throw new LiveError(`--kernel: ${kernel} is neither a series, as 6.1, nor a file`);
  makeFolder(folder, 'the cache folder');
  const missing = options.update === true ? wanted(options) : missingIn(options);
  if (missing.length > 0) await fetchPeers(options, missing, report);
  return peersIn(options);
}

/** What is in the cache folder already: undefined unless that is everything. @throws LiveError if the folder is damaged. */
export function cachedPeers(options: PeerOptions): Peers | undefined {
  return existsSync(options.folder) && missingIn(options).length === 0 ? peersIn(options) : undefined;
}

/** The QEMU of the cache folder, as program and first arguments. */
export function cachedQemu(folder: string): readonly string[] | undefined {
  const qemu = existsSync(folder) ? newestFolder(folder, QEMU_FOLDER) : undefined;
  return qemu === undefined ? undefined : commandIn(qemu);
}

function peersIn({ folder, kernel, flavour }: PeerOptions): Peers {
  const qemu = newestFolder(folder, QEMU_FOLDER)!;
  return {
    qemu: commandIn(qemu),
    qemuVersion: versionOf(qemu),
    busybox: firstExisting(newestFolder(folder, BUSYBOX_FOLDER)!, BUSYBOX.programs),
    kernel: isSeries(kernel)
      ? kernelIn(newestFolder(folder, imagePatterns(kernel, flavour))!)
      : { image: kernel, version: kernel, modules: undefined },
  };
}

/** Through its own loader, with its own libraries: it may be of another release than this machine. */
function commandIn(qemu: string): readonly string[] {
  const at = (path: string): string => firstExisting(qemu, [path]);
  return [at(LOADER), '--library-path', at(LIBRARIES), at(QEMU.program), ...DATA.flatMap(each => ['-L', at(each)])];
}

/** Names of the folders that these options need. */
function wanted({ kernel, flavour }: PeerOptions): readonly Names[] {
  return [QEMU_FOLDER, BUSYBOX_FOLDER, ...(isSeries(kernel) ? [imagePatterns(kernel, flavour)] : [])];
}

function missingIn(options: PeerOptions): readonly Names[] {
  return wanted(options).filter(each => newestFolder(options.folder, each) === undefined);
}

type Names = readonly RegExp[];

async function fetchPeers(options: PeerOptions, missing: readonly Names[], report: FetchReport): Promise<void> {
  const { folder, kernel, flavour, mirror } = options;
  const apt = new Apt(join(folder, 'apt'), SUITES, mirror);
  const to = (what: string) => (percent: number) => report(what, percent);
  await apt.update(to('package lists'));
  for (const names of missing) {
    if (names === QEMU_FOLDER) {
      const archives = await apt.closure(QEMU.package, QEMU_SUITE, to('QEMU'));
      keep(folder, 'qemu', archives, archives.find(each => each.package === QEMU.package)!.version);
    } else if (names === BUSYBOX_FOLDER) {
      const archive = await apt.single(BUSYBOX.package, to('busybox'));
      keep(folder, 'busybox', [archive], archive.version);
    } else {
      const image = imageOf(apt, kernel, flavour);
      const archives: Archive[] = [];
      for (const each of new Set([image, modulesPackage(image)])) archives.push(await apt.single(each, to(each)));
      keep(folder, image, archives, archives[0]!.version);
    }
  }
}

function imageOf(apt: Apt, series: string, flavour: Flavour): string {
  for (const names of imagePatterns(series, flavour)) {
    const image = apt.newest(names);
    if (image !== undefined) return image;
  }
  const all = imagePatterns('\\d+', flavour).flatMap(names => apt.names(names));
  const others = [...new Set(all.map(name => /\d+\.\d+/.exec(name)![0]))].sort(byNumbers);
  throw new LiveError(
    `--kernel: Debian's ${SUITES.join(', ')} have no Linux ${series} for this; they have ${others.join(', ')}`,
  );
}

/** Unpacked as a whole or not at all: what is found is complete. */
function keep(folder: string, name: string, archives: readonly Archive[], version: string): void {
  const target = join(folder, `${name}_${version.replace(/^\d+:/, '')}`);
  if (!existsSync(target)) {
    using work = folderWithUs('unpacking-', folder);
    for (const archive of archives) unpack(archive, work.path);
    renameSync(work.path, target);
  }
  for (const { file } of archives) rmSync(file, { force: true });
}

/** Folders are named by package and version. */
function newestFolder(folder: string, names: Names): string | undefined {
  const all = readdirSync(folder).filter(each => each.includes('_'));
  for (const name of names) {
    const newest = all
      .filter(each => name.test(each.split('_')[0]!))
      .sort(byNumbers)
      .at(-1);
    if (newest !== undefined) return join(folder, newest);
  }
  return undefined;
}

function versionOf(folder: string): string {
  return basename(folder).split('_')[1]!;
}

function kernelIn(folder: string): Kernel {
  const release = basename(folder)
    .split('_')[0]!
    .replace(/^linux-(image|binary)-/, '');
  return {
    image: firstExisting(folder, [`boot/vmlinuz-${release}`, `usr/lib/modules/${release}/vmlinuz`]),
    version: `${release} (${versionOf(folder)})`,
    modules: firstExisting(folder, [`usr/lib/modules/${release}`, `lib/modules/${release}`]),
  };
}

function firstExisting(folder: string, paths: readonly string[]): string {
  const found = paths.map(path => join(folder, path)).find(path => existsSync(path));
  if (found === undefined)
    throw new LiveError(`${folder} has no ${paths.join(' or ')}: remove the folder, it is fetched again`);
  return found;
}
