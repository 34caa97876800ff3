import { spawnSync } from 'node:child_process'

/** Prometheus's own tools (Debian package `prometheus`). With BERTH_TEST_PROMTOOL=required missing ones are an error. */
export const promtoolAvailable: boolean = ['promtool', 'prometheus'].every(
  (program) => spawnSync(program, ['--version']).status === 0,
)

if (!promtoolAvailable && process.env.BERTH_TEST_PROMTOOL === 'required') {
  throw new Error('BERTH_TEST_PROMTOOL=required, but promtool and prometheus are not both there')
}

/** Both outputs as one; `input` is its standard input. */
export function promtool(
  args: readonly string[],
  input = '',
): { readonly code: number | null; readonly output: string } {
  const { status, stdout, stderr } = spawnSync('promtool', [...args], { input, encoding: 'utf8' })
  return { code: status, output: `${stdout}${stderr}` }
}
