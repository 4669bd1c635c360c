'use strict';
// Mail of this site into Maildirs: the file is written and synced in tmp, linked into new, the folder synced, and only
// then is the message answered 250. One message for several mailboxes is one file with several names.
//
// config/maildir.json: {"domain": "...", "root": "...", "users": [...]}

const fs = require('node:fs');
const path = require('node:path');

let number = 0;

exports.register = function () {
    const { domain, root, users } = this.config.get('maildir.json');
    this.domain = domain;
    this.root = root;
    this.users = new Set(users);
    for (const user of users) {
        for (const part of ['tmp', 'new', 'cur']) {
            fs.mkdirSync(path.join(root, user, part), { recursive: true });
        }
    }
    this.register_hook('rcpt', 'known');
    this.register_hook('queue', 'keep');
};

exports.known = function (next, connection, params) {
    const rcpt = params[0];
    if (rcpt.host !== this.domain) return next(DENY, 'not of this site');
    return this.users.has(rcpt.user) ? next(OK) : next(DENY, 'no such mailbox');
};

exports.keep = function (next, connection) {
    keep(this.root, connection.transaction).then(
        () => next(OK),
        (error) => {
            connection.logerror(error.message);
            next(DENYSOFT, 'cannot be kept now');
        },
    );
};

async function keep (root, transaction) {
    const users = [...new Set(transaction.rcpt_to.map((rcpt) => rcpt.user))];
    const name = `${Date.now()}.P${process.pid}Q${++number}.haraka`;
    const first = path.join(root, users[0], 'tmp', name);
    await written(transaction.message_stream, first);
    for (const user of users) {
        const folder = path.join(root, user, 'new');
        await fs.promises.link(first, path.join(folder, name));
        const opened = await fs.promises.open(folder);
        try {
            await opened.sync();
        } finally {
            await opened.close();
        }
    }
    await fs.promises.unlink(first);
}

function written (message, name) {
    return new Promise((resolve, reject) => {
        // "flush" syncs before it closes (Node.js 20.10 and newer)
        const out = fs.createWriteStream(name, { flags: 'wx', mode: 0o600, flush: true });
        out.on('close', resolve);
        out.on('error', reject);
        message.pipe(out, { line_endings: '\n', dot_stuffed: false });
    });
}
