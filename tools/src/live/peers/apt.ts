/** Debian's packages, by apt with folders of its own: nothing is installed, no rights are needed, signatures are apt's business. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { spawnWithUs } from '../../leftovers/index.js';
import { LiveError } from './live-error.js';
import { makeFolder } from './make-folder.js';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const NEEDED = ['apt-get', 'apt-cache', 'dpkg-deb'];
/** Of the file descriptors that apt gets: it writes its progress there. */
const STATUS_FD = 3;

/** `percent` of the downloads under way. */
export type Progress = (percent: number) => void;

export interface Archive {
  readonly package: string;
  readonly version: string;
  /** The .deb file. */
  readonly file: string;
}

export class Apt {
  readonly #folder: string;
  readonly #environment: NodeJS.ProcessEnv;

  /** @throws LiveError where there is no apt, no key ring, or no mirror is known. */
  constructor(folder: string, suites: readonly string[], mirror?: string) {
    for (const program of NEEDED) {
      if (spawnSync(program, ['--version']).error !== undefined)
        throw new LiveError(`${program} is not there: packages are fetched by Debian's apt`);
    }
    if (!existsSync(KEYRING)) throw new LiveError("Debian's keys are not there: install debian-archive-keyring");
    const site = mirror ?? machineMirror();
    this.#folder = folder;
    for (const each of ['lists/partial', 'archives/partial']) makeFolder(join(folder, each), 'the cache folder');
    const configuration = join(folder, 'apt.conf');
    this.#write('sources.list', suites.map(suite => `deb [signed-by=${KEYRING}] ${site} ${suite} main\n`).join(''));
    // No package counts as installed: what is fetched is complete.
    this.#write('status', '');
    this.#write('apt.conf', settings(folder));
    this.#environment = { ...process.env, APT_CONFIG: configuration, LC_ALL: 'C' };
  }

  #write(name: string, text: string): void {
    writeFileSync(join(this.#folder, name), text);
  }

  /** Asks the mirror what there is. */
  async update(progress: Progress): Promise<void> {
    await this.#get(['update', '--error-on=any'], progress);
  }

  /** The newest package with such a name: by the numbers in it. Undefined if there is none. */
  newest(pattern: RegExp): string | undefined {
    return this.names(pattern).at(-1);
  }

  /** All packages with such a name, by the numbers in them. */
  names(pattern: RegExp): string[] {
    const names = this.#run('apt-cache', ['pkgnames']).split('\n');
    return names.filter(name => pattern.test(name)).sort(byNumbers);
  }

  /** A package of `suite` with all that it depends on. What was fetched before, whole or in part, is not fetched again. */
  async closure(name: string, suite: string, progress: Progress): Promise<Archive[]> {
    const request = ['install', '-y', '-t', suite, name];
    const listed = this.#uris(request);
    await this.#get(['--download-only', '-q', ...request], progress);
    return listed.map(file => this.#archive(file));
  }

  /** The newest version that there is of a package. */
  version(name: string): string {
    return partsOf(this.#fileOf(name)).version;
  }

  /** One package, without what it depends on; the newest that there is. */
  async single(name: string, progress: Progress): Promise<Archive> {
    const archives = join(this.#folder, 'archives');
    const file = this.#fileOf(name);
    if (!existsSync(join(archives, file))) await this.#get(['download', name], progress, archives);
    return this.#archive(file);
  }

  #fileOf(name: string): string {
    const [file] = this.#uris(['download', name]);
    if (file === undefined) throw new LiveError(`${name} is not in Debian's suites`);
    return file;
  }

  /** Names of the files that a request fetches. It leaves out what is there, so it looks where nothing is. */
  #uris(request: readonly string[]): string[] {
    const nowhere = join(this.#folder, 'nothing');
    mkdirSync(join(nowhere, 'partial'), { recursive: true });
    const listed = this.#run('apt-get', ['--print-uris', '-qq', '-o', `Dir::Cache::archives=${nowhere}`, ...request]);
    return [...listed.matchAll(/^'[^']*' (\S+) \d+ /gm)].map(([, file]) => file!);
  }

  #archive(name: string): Archive {
    const file = join(this.#folder, 'archives', name);
    if (!existsSync(file)) throw new LiveError(`${name} was not fetched`);
    return { ...partsOf(name), file };
  }

  #run(program: string, args: readonly string[]): string {
    const { status, stdout, stderr } = spawnSync(program, args, {
      env: this.#environment,
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
    if (status !== 0) throw new LiveError(said(program, stderr));
    return stdout;
  }

  async #get(args: readonly string[], progress: Progress, cwd: string = this.#folder): Promise<void> {
    const child = spawnWithUs('apt-get', ['-o', `APT::Status-Fd=${STATUS_FD}`, ...args], {
      cwd,
      env: this.#environment,
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    });
    let errors = '';
    child.stderr!.on('data', (text: Buffer) => (errors += text.toString()));
    createInterface(child.stdio[STATUS_FD] as Readable).on('line', line => {
      const percent = /^dlstatus:\d+:([\d.]+):/.exec(line)?.[1];
      if (percent !== undefined) progress(Number(percent));
    });
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject).once('close', resolve);
    });
    if (code !== 0) throw new LiveError(said('apt-get', errors));
    progress(100);
  }
}

/** Of the name of a .deb file. */
function partsOf(file: string): Pick<Archive, 'package' | 'version'> {
  const [name, version] = decodeURIComponent(file).split('_');
  return { package: name!, version: version! };
}

/** Unpacks one into a folder, which may have others already. */
export function unpack({ file }: Archive, folder: string): void {
  mkdirSync(folder, { recursive: true });
  const { status, stderr } = spawnSync('dpkg-deb', ['-x', file, folder], { encoding: 'utf8' });
  if (status !== 0) throw new LiveError(said('dpkg-deb', stderr));
}

/** The mirror from which this machine's own Debian packages come. */
function machineMirror(): string {
  const { stdout, error } = spawnSync('apt-get', ['indextargets', '--format', '$(SITE)', 'Label: Debian'], {
    encoding: 'utf8',
  });
  const site = error === undefined ? stdout.split('\n').find(line => line !== '') : undefined;
  if (site === undefined)
    throw new LiveError(
      "this machine has no mirror of Debian's packages: run apt-get update, or name one with --mirror",
    );
  return site;
}

/** The first complaint of a program. */
function said(program: string, errors: string): string {
  const lines = errors.split('\n').filter(line => line !== '');
  return `${program}: ${(lines.find(line => line.startsWith('E:')) ?? lines[0] ?? 'failed').replace(/^E: /, '')}`;
}

/** Orders names by the numbers in them. */
export function byNumbers(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

function settings(folder: string): string {
  const values = {
    'Dir::State': folder,
    'Dir::State::lists': 'lists',
    'Dir::State::status': join(folder, 'status'),
    'Dir::Cache': folder,
    'Dir::Cache::archives': 'archives',
    'Dir::Etc::sourcelist': join(folder, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::Etc::preferences': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'APT::Install-Recommends': 'false',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '3',
  };
  return Object.entries(values)
    .map(([name, value]) => `${name} "${value}";\n`)
    .join('');
}
