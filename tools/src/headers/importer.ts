/** The header importer [A01]: declarations, C headers and fixtures held against each other. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import * as uapi from '@remora/uapi';
import { compareDeclarations, compareMembers, type Declarations, type Difference } from './compare.js';
import type { Facts, Origin } from './facts.js';
import { CannotProbe, type Probed, ProbeRejected, runProbe } from './probe.js';

export interface ImportOptions {
  /** C compiler; by default what the environment names in CC, else `cc`. */
  readonly compiler?: string | undefined;
  /** Folders to search for linux/vfio.h before the system's: another kernel's headers. */
  readonly includes?: readonly string[] | undefined;
  readonly withoutLinux?: boolean | undefined;
  /** Replace the fixtures by what the compiler says. Needs the kernel's headers. */
  readonly writeFixtures?: boolean | undefined;
  /** Folder of the C sources and of fixtures.json. */
  readonly sources?: string | undefined;
  /** What to check; by default everything that @remora/uapi declares. */
  readonly declarations?: Declarations | undefined;
}

export interface OriginSummary {
  readonly structs: number;
  readonly fields: number;
  readonly constants: number;
}

export interface HeaderReport {
  /** Why nothing was checked; undefined if something was. */
  readonly skipped?: string | undefined;
  /** Version of the kernel's headers; undefined if they are not installed: then upstream structures were not checked. */
  readonly kernelHeaders?: string | undefined;
  /** Version of the kernel's headers that iommufd was held against; undefined if it was our rendering of them. */
  readonly iommufdHeaders?: string | undefined;
  /** How much was compared. */
  readonly compared: Partial<Record<Origin, OriginSummary>>;
  readonly differences: readonly Difference[];
  readonly fixtures: 'written' | 'equal' | 'different' | 'not compared';
}

const SOURCES = fileURLToPath(new URL('../../../packages/uapi/fixtures/', import.meta.url));
const FIXTURES = 'fixtures.json';

/** All that @remora/uapi declares. */
export function uapiDeclarations(): Declarations {
  const exported: readonly unknown[] = Object.values(uapi);
  return {
    structs: exported.filter((value): value is uapi.StructType => value instanceof uapi.StructType),
    constants: { rfc: uapi.RFC_CONSTANTS, linux: uapi.LINUX_CONSTANTS, iommufd: uapi.IOMMUFD_CONSTANTS },
  };
}

/**
 * Compiles the probe, compares, and writes the fixtures if asked to. A machine without a C compiler gives a report that says so.
 */
export function importHeaders(options: ImportOptions = {}): HeaderReport {
  const sources = options.sources ?? SOURCES;
  const declarations = options.declarations ?? uapiDeclarations();
  let probed: Probed;
  try {
    probed = runProbe({
      sources,
      compiler: options.compiler ?? process.env['CC'] ?? 'cc',
      includes: options.includes,
      withoutLinux: options.withoutLinux,
    });
  } catch (error) {
    const nothing = { compared: {}, fixtures: 'not compared' } as const;
    if (error instanceof CannotProbe) return { ...nothing, skipped: error.message, differences: [] };
    if (!(error instanceof ProbeRejected)) throw error;
    return { ...nothing, differences: [{ where: 'probe.c', declared: 'compiles', actual: error.message }] };
  }
  const { facts, preprocessed } = probed;
  const differences = [
    ...compareDeclarations(declarations, facts),
    ...compareMembers(declarations.structs, facts, preprocessed),
  ];
  const file = join(sources, FIXTURES);
  const fixtures = options.writeFixtures === true ? writeFixtures(file, facts) : compareFixtures(file, facts);
  const { kernelHeaders, iommufdHeaders } = facts;
  return { kernelHeaders, iommufdHeaders, compared: summary(facts), differences, fixtures };
}

function summary(facts: Facts): HeaderReport['compared'] {
  const of = (origin: Origin): OriginSummary => {
    const structs = Object.values(facts.structs).filter(struct => struct.origin === origin);
    return {
      structs: structs.length,
      fields: structs.reduce((sum, { fields }) => sum + Object.keys(fields).length, 0),
      constants: Object.keys(facts.constants[origin]).length,
    };
  };
  const always = { rfc: of('rfc'), iommufd: of('iommufd') };
  return facts.kernelHeaders === undefined ? always : { ...always, linux: of('linux') };
}

function writeFixtures(file: string, facts: Facts): HeaderReport['fixtures'] {
  if (facts.kernelHeaders === undefined) return 'not compared';
  writeFileSync(file, fixtureText(facts));
  return 'written';
}

/** One line for each field list, sample and group of constants, so that a change is easy to see. */
function fixtureText(facts: Facts): string {
  const deep = JSON.stringify(
    { comment: 'Made by tools/src/headers from probe.c; not to be edited.', ...facts },
    null,
    1,
  );
  return `${deep.replace(/\[\n\s+(\d+),\n\s+(\d+)\n\s+\]/g, '[$1, $2]')}\n`;
}

/** Upstream's part is compared only if it was made from the same version of the headers: structures may grow. */
function compareFixtures(file: string, facts: Facts): HeaderReport['fixtures'] {
  if (!existsSync(file)) return 'different';
  const kept = JSON.parse(readFileSync(file, 'utf8')) as Facts;
  const same = facts.kernelHeaders === kept.kernelHeaders;
  const part = (whole: Facts): unknown => ({
    structs: Object.entries(whole.structs).filter(([, { origin }]) => same || origin !== 'linux'),
    constants: same ? whole.constants : { rfc: whole.constants.rfc, iommufd: whole.constants.iommufd },
    ioctls: whole.ioctls.filter(({ origin }) => same || origin !== 'linux'),
  });
  return isDeepStrictEqual(part(kept), part(facts)) ? 'equal' : 'different';
}
