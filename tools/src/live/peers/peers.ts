/** The programs of a live machine besides Remora: found in the cache folder, else fetched into it. */
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { folderWithUs } from '../../leftovers/index.js';
import { Apt, type Archive, byNumbers, unpack } from './apt.js';
import { LiveError } from './live-error.js';
import { makeFolder } from './make-folder.js';
import {
  BUSYBOX,
  type Flavour,
  headersPackages,
  imagePatterns,
  isSeries,
  modulesPackage,
  QEMU,
  QEMU_SUITE,
  SUITES,
} from './series.js';

export interface PeerOptions {
  /** The cache folder. */
  readonly folder: string;
  /** A series, as `6.1`, or the path of a kernel image. */
  readonly kernel: string;
  readonly flavour: Flavour;
  /** With the headers of the kernel, which modules are compiled with. */
  readonly headers?: boolean | undefined;
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
  /** Folder of the headers of its flavour, beside those of all flavours; undefined if they were not asked for. */
  readonly headers: string | undefined;
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

function peersIn(options: PeerOptions): Peers {
  const { folder, kernel } = options;
  const qemu = newestFolder(folder, QEMU_FOLDER)!;
  return {
    qemu: commandIn(qemu),
    qemuVersion: versionOf(qemu),
    busybox: firstExisting(newestFolder(folder, BUSYBOX_FOLDER)!, BUSYBOX.programs),
    kernel: isSeries(kernel)
      ? kernelIn(kernelFolder(options)!, options)
      : { image: kernel, version: kernel, modules: undefined, headers: undefined },
  };
}

/** Through its own loader, with its own libraries: it may be of another release than this machine. */
function commandIn(qemu: string): readonly string[] {
  const at = (path: string): string => firstExisting(qemu, [path]);
  return [at(LOADER), '--library-path', at(LIBRARIES), at(QEMU.program), ...DATA.flatMap(each => ['-L', at(each)])];
}

type Part = 'QEMU' | 'busybox' | 'kernel';

function wanted({ kernel }: PeerOptions): readonly Part[] {
  return ['QEMU', 'busybox', ...(isSeries(kernel) ? (['kernel'] as const) : [])];
}

function missingIn(options: PeerOptions): readonly Part[] {
  const found = {
    QEMU: () => newestFolder(options.folder, QEMU_FOLDER),
    busybox: () => newestFolder(options.folder, BUSYBOX_FOLDER),
    kernel: () => kernelFolder(options),
  };
  return wanted(options).filter(part => found[part]() === undefined);
}

type Names = readonly RegExp[];

async function fetchPeers(options: PeerOptions, missing: readonly Part[], report: FetchReport): Promise<void> {
  const { folder, kernel, flavour, mirror } = options;
  const apt = new Apt(join(folder, 'apt'), SUITES, mirror);
  const to = (what: string) => (percent: number) => report(what, percent);
  await apt.update(to('package lists'));
  for (const part of missing) {
    if (part === 'QEMU') {
      const archives = await apt.closure(QEMU.package, QEMU_SUITE, to('QEMU'));
      keep(folder, 'qemu', archives, archives.find(each => each.package === QEMU.package)!.version);
    } else if (part === 'busybox') {
      const archive = await apt.single(BUSYBOX.package, to('busybox'));
      keep(folder, 'busybox', [archive], archive.version);
    } else {
      const image = imageOf(apt, kernel, flavour);
      const headers = headersPackages(image);
      const sets = [new Set([image, modulesPackage(image)]), ...(options.headers === true ? [headers] : [])];
      for (const packages of sets) {
        const [name] = packages;
        if (existsSync(join(folder, folderName(name!, apt.version(name!))))) continue;
        const archives: Archive[] = [];
        for (const each of packages) archives.push(await apt.single(each, to(each)));
        keep(folder, name!, archives, archives[0]!.version);
      }
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
  const target = join(folder, folderName(name, version));
  if (!existsSync(target)) {
    using work = folderWithUs('unpacking-', folder);
    for (const archive of archives) unpack(archive, work.path);
    renameSync(work.path, target);
  }
  for (const { file } of archives) rmSync(file, { force: true });
}

/** Folders are named by package and version. */
function folderName(name: string, version: string): string {
  return `${name}_${version.replace(/^\d+:/, '')}`;
}

function newestFolder(folder: string, names: Names): string | undefined {
  return foldersOf(folder, names)[0];
}

/** The newest first; those of earlier patterns before others. */
function foldersOf(folder: string, names: Names): string[] {
  const all = readdirSync(folder).filter(each => each.includes('_'));
  return names.flatMap(name => {
    const fitting = all.filter(each => name.test(each.split('_')[0]!)).sort(byNumbers);
    return fitting.reverse().map(each => join(folder, each));
  });
}

/** The newest kernel that is complete. */
function kernelFolder({ folder, kernel, flavour, headers }: PeerOptions): string | undefined {
  const all = foldersOf(folder, imagePatterns(kernel, flavour));
  return headers === true ? all.find(each => existsSync(headersFolder(each))) : all[0];
}

/** Of the same release and version. */
function headersFolder(kernel: string): string {
  const [image] = basename(kernel).split('_');
  return join(dirname(kernel), folderName(headersPackages(image!)[0], versionOf(kernel)));
}

function versionOf(folder: string): string {
  return basename(folder).split('_')[1]!;
}

function kernelIn(folder: string, { headers }: PeerOptions): Kernel {
  const [image] = basename(folder).split('_');
  const release = image!.replace(/^linux-(image|binary)-/, '');
  const sources = `usr/src/linux-headers-${release}`;
  return {
    image: firstExisting(folder, [`boot/vmlinuz-${release}`, `usr/lib/modules/${release}/vmlinuz`]),
    version: `${release} (${versionOf(folder)})`,
    modules: firstExisting(folder, [`usr/lib/modules/${release}`, `lib/modules/${release}`]),
    headers: headers === true ? firstExisting(headersFolder(folder), [sources]) : undefined,
  };
}

function firstExisting(folder: string, paths: readonly string[]): string {
  const found = paths.map(path => join(folder, path)).find(path => existsSync(path));
  if (found === undefined)
    throw new LiveError(`${folder} has no ${paths.join(' or ')}: remove the folder, it is fetched again`);
  return found;
}
