/** In a process of its own: restores the machine of argv[2] and does the rest, from argv[4] on, of the run in argv[3]. */
import { readFileSync } from 'node:fs';
import { goOn, type StraightRun } from './runs.js';

const [, , file = '', trace = '', at = ''] = process.argv;
const run = JSON.parse(readFileSync(trace, 'utf8')) as Pick<StraightRun, 'operations' | 'seen'>;
const { differsAt, outcome } = goOn(readFileSync(file), run, Number(at));
process.stdout.write(JSON.stringify({ differsAt, outcome }));
