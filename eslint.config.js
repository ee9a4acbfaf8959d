import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';
import { plugin as remora } from './tools/dist/lint/index.js';

export default defineConfig(
  globalIgnores(['**/dist/', 'docs/api/', 'test/fixtures/', 'my-vms/']),
  tseslint.configs.recommended,
  { linterOptions: { reportUnusedDisableDirectives: 'error' }, rules: { eqeqeq: 'error' } },
  {
    files: ['**/*.ts'],
    plugins: { remora },
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      'remora/layers': 'error',
      'remora/log-names': 'error',
      'remora/no-bigint': 'error',
      'no-console': 'error',
      // `!` marks what a range check nearby has shown; noUncheckedIndexedAccess asks for it on every typed array.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/consistent-type-imports': 'error',
      // An assertion that nobody awaits passes.
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/only-throw-error': 'error',
      '@typescript-eslint/restrict-template-expressions': 'error',
    },
  },
);
