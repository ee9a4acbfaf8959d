export { type FailNthCommandOptions, runFailNth } from './fail-nth-command.js';
export { scenarioList } from './scenarios.js';
