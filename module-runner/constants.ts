/**
 * The fixed words of runner protocol 1. Apart from protocol.ts, which exports them too, so that the runner itself need not
 * load the schema library: that would cost every module container 12 MB.
 */
export const protocolVersion = 1
export const defaultPort = 8000
export const ndjson = 'application/x-ndjson'

export const runnerStates = ['starting', 'idle', 'ready', 'failed'] as const

/** Environment variables that a runner reads. Only the first three concern images of other people. */
export const runnerVariables = {
  /** TCP port to listen on, all addresses. Default 8000. */
  port: 'BERTH_PORT',
  /** When set, every request but GET /health must carry it as a bearer token. */
  token: 'BERTH_TOKEN',
  /** Path of a Unix socket to listen on instead of a port (embedded engine). */
  socket: 'BERTH_SOCKET',
  /** RunnerConfiguration as JSON. */
  module: 'BERTH_MODULE',
  /** `1`: exit, and end everything that was started, when standard input ends (embedded engine). */
  exitWithStdin: 'BERTH_EXIT_WITH_STDIN',
  /** Largest request body in bytes. Default 256 MiB. */
  bodyLimit: 'BERTH_BODY_LIMIT',
} as const

/** InstallOrder as JSON, for the installer. */
export const installVariable = 'BERTH_INSTALL'
/** The uv program for the installer to use; else the one on the path, else pip. */
export const uvVariable = 'BERTH_UV'

/** The marker of a complete environment, in the environment's folder. */
export const markerName = 'environment.json'

/** Node options for the installer. Others would cost a tenth of its start: Node's own compiled code is for these only. */
export const installerNodeFlags: readonly string[] = ['--disable-warning=ExperimentalWarning']

/**
 * Node options for the runner, chosen for little memory. The optimising compilers start switched off
 * (their code alone is 9 MB of resident pages); the runner switches one on with the first traffic.
 */
export const runnerNodeFlags: readonly string[] = [
  '--no-opt',
  '--no-maglev',
  '--expose-gc',
  '--single-threaded-gc',
  '--v8-pool-size=0',
  '--max-semi-space-size=8',
  '--disable-warning=ExperimentalWarning',
]

/**
 * Folder of the runner image, under `/berth/runner`, for NODE_COMPILE_CACHE: made for these options and for user 10001. With it
 * a runner starts in half the time and, as it need not load a TypeScript parser, takes 17 MB less. Where there is no image,
 * any folder that the runner may write does the same from the second start on.
 */
export const compileCacheFolder = 'compile-cache'
