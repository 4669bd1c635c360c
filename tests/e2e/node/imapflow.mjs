// imapflow, driven line by line: {"do": method, "args": […]} comes in, {"result": …} or {"error": …} goes out;
// {"event": name, "data": …} whenever it hears something. `lines`: what it said and heard, for {"do": "traffic"}.
import { createInterface } from 'node:readline';
import { ImapFlow } from 'imapflow';

const say = value => process.stdout.write(JSON.stringify(value, plain) + '\n');
const traffic = [];

function plain(key, value) {
    const original = key ? this[key] : value;
    if (Buffer.isBuffer(original)) return original.toString('latin1');
    if (typeof original === 'bigint') return Number(original);
    if (original instanceof Map) return Object.fromEntries(original);
    if (original instanceof Set) return [...original].sort();
    return value;
}

const note = entry => { if (entry.msg || entry.src) traffic.push(`${entry.src ?? ''} ${entry.msg ?? ''}`); };
const quiet = { trace: note, debug: note, info: note, warn: note, error: note };

const options = JSON.parse(process.argv[2]);
const client = new ImapFlow({ ...options, logger: quiet });
for (const event of ['exists', 'expunge', 'flags', 'close', 'mailboxOpen']) {
    client.on(event, data => say({ event, data: data?.path && event !== 'mailboxOpen'
        ? { ...data, flags: data.flags } : undefined }));
}
client.on('error', error => say({ event: 'error', data: String(error) }));

async function text(stream) {
    const parts = [];
    for await (const part of stream) parts.push(part);
    return Buffer.concat(parts).toString('latin1');
}

const own = {
    traffic: async () => traffic,
    state: async () => ({
        enabled: client.enabled, capabilities: [...client.capabilities.keys()], mailbox: client.mailbox,
        usable: client.usable, idling: client.idling,
    }),
    // one part as its reader wants it: transfer encoding and charset undone
    download: async (...args) => {
        const { meta, content } = await client.download(...args);
        return { meta, content: await text(content) };
    },
    append: async (path, content, ...rest) => client.append(path, Buffer.from(content, 'latin1'), ...rest),
    fetchAll: async (range, query, options) => {
        const found = [];
        for await (const message of client.fetch(range, query, options)) found.push(message);
        return found;
    },
    // IDLE begins, and the answer comes at once
    startIdle: async () => { client.idle().catch(() => {}); },
};

for await (const line of createInterface({ input: process.stdin })) {
    const { do: name, args } = JSON.parse(line);
    try {
        const result = await (own[name] ?? ((...all) => client[name](...all)))(...args);
        say({ result: result ?? null });
    } catch (error) {
        say({ error: [error.message, error.responseText, error.serverResponseCode, error.code].join(' | ') });
    }
}
client.close();
process.exit(0);
